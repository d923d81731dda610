"""The processes that train together, as seen from one of them.

A process alone is a group of one: it needs no network, and does not wait for torch to be imported.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from modelwright.api.run import PEER_LOST, PREFLIGHT_FAILED
from modelwright.api.variables import BACKEND_VARIABLE, DEVICE_VARIABLE
from modelwright.runtime.failure import RunError
from modelwright.runtime.preflight import whoami
from modelwright.runtime.train import agentstore

_DRIVERS = ("/dev/nvidiactl", "/dev/kfd")
"""Of NVIDIA and AMD; torch calls both of them CUDA."""
_COLLECTIVE_TIMEOUT = timedelta(minutes=10)
# What gloo and NCCL say when the other end has gone; they raise nothing more specific than RuntimeError.
_PEER_WORDS = ("connection closed by peer", "connection reset", "broken pipe", "gloo", "nccl", "socket", "timed out")
PLAIN_PEER_WORDS = ("connection closed by peer", "/gloo/", "nccl", "processgroup")
"""What a program of the user's does not say of itself."""


@dataclass(frozen=True)
class World:
    """A group of `size` processes."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Rank 0 decides, saves, reports, evaluates and registers."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes."""
        if self.size == 1:
            return list(values)
        import torch

        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        with lost_peers():
            torch.distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def all_reduce(self, tensors: Sequence[Any], values: Sequence[float]) -> list[float]:
        """Sum tensors over all processes, in place, and values, which are returned; all in one message.

        The tensors have one type, which the values pass through.
        """
        if self.size == 1:
            return list(values)
        import torch

        with torch.no_grad():
            last = torch.tensor(values, dtype=tensors[0].dtype, device=self.device)
            message = torch.cat([tensor.reshape(-1) for tensor in (*tensors, last)])
            with lost_peers():
                torch.distributed.all_reduce(message)
            _unpack(message, [*tensors, last])
        return [float(value) for value in last.tolist()]

    def broadcast(self, tensors: Sequence[Any]) -> None:
        """Give all processes rank 0's tensors, in place."""
        if self.size == 1:
            return
        import torch

        with torch.no_grad():
            message = torch.cat([tensor.reshape(-1) for tensor in tensors])
            with lost_peers():
                torch.distributed.broadcast(message, src=0)
            _unpack(message, tensors)

    def agree(self, value: Any) -> Any:
        """Return rank 0's value, which must be JSON, on every rank."""
        if self.size == 1:
            return value
        import torch

        body = json.dumps(value).encode() if self.leads else b""
        (length,) = self.sum([float(len(body))])
        buffer = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        if self.leads:
            buffer = torch.frombuffer(bytearray(body), dtype=torch.uint8).to(self.device)
        with lost_peers():
            torch.distributed.broadcast(buffer, src=0)
        return json.loads(bytes(buffer.cpu().tolist()))


def _unpack(message: Any, tensors: Sequence[Any]) -> None:
    for part, tensor in zip(message.split([tensor.numel() for tensor in tensors]), tensors, strict=True):
        tensor.copy_(part.view_as(tensor))


@contextmanager
def lost_peers(words: Sequence[str] = _PEER_WORDS) -> Iterator[None]:
    """Turn a broken connection to another process into `RunError` PeerLost; `words` are those by which it is known."""
    try:
        yield
    except RuntimeError as error:
        # torch's own errors of this kind are RuntimeErrors too.
        text = f"{type(error).__module__} {error}".lower()
        if any(word in text for word in ("torch.distributed", *words)):
            raise RunError(PEER_LOST, "The connection to another worker broke", retryable=True) from error
        raise


@contextmanager
def joined(patience: timedelta | None = None) -> Iterator[World]:
    """Join the group that torchrun or Ray has prepared in the environment, and leave it in the end.

    `patience`: how long a process waits for another one, where somebody else watches for hangs.
    """
    there = sys.modules.get("torch.distributed")
    if there is not None and there.is_available() and there.is_initialized():
        # By Ray Train, or by the program itself: whoever made it takes it down.
        yield World(there.get_rank(), there.get_world_size(), _device())
        return
    if "RANK" not in os.environ:
        yield World(device=_device())
        return
    import torch.distributed as dist

    device = _device()
    wait = patience or _COLLECTIVE_TIMEOUT
    with lost_peers():
        place: dict[str, Any] = {}
        if agentstore.restarts() and agentstore.kept_by_agent():
            rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            place = {"store": agentstore.fresh_store(wait), "rank": rank, "world_size": size}
        backend = os.environ.get(BACKEND_VARIABLE) or ("gloo" if device == "cpu" else "nccl")
        dist.init_process_group(backend, timeout=wait, **place)
    yield World(dist.get_rank(), dist.get_world_size(), device)
    # Not after an error: with a peer gone, taking the group down can hang, and the process ends anyway.
    dist.destroy_process_group()


def _number() -> int:
    """Return which of the GPUs that it sees is this process's: under Ray, where several may share one, Ray says."""
    if told := os.environ.get(DEVICE_VARIABLE):
        return int(told)
    ray = sys.modules.get("ray")
    mine = [str(entry) for entry in ray.get_gpu_ids()] if ray is not None and ray.is_initialized() else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if mine and mine[0] in visible:
        return visible.index(mine[0])
    if told := os.environ.get("LOCAL_RANK"):
        return int(told)
    torch = sys.modules.get("torch")
    # What the program has chosen, which started its processes itself; the first one where it has not.
    return int(torch.cuda.current_device()) if torch is not None else 0


def _device() -> str:
    """Return this process's GPU, if the pod has any; a look at the device files spares most pods an import."""
    if not any(Path(driver).exists() for driver in _DRIVERS):
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    number, seen = _number(), torch.cuda.device_count()
    if number >= seen:
        message = f"{whoami()}: GPU: process {number + 1} of this pod has none: torch sees {seen}"
        raise RunError(PREFLIGHT_FAILED, message, retryable=True)
    device = f"cuda:{number}"
    torch.cuda.set_device(device)
    return device
