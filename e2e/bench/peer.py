"""The training loop of all comparisons: what a good engineer would write, with a choice of who keeps its checkpoints.

It is handed to pods as it stands (`python -c`) and started by torchrun on all sides. With BENCH_KEEPER=plain it brings
its own process group, and its own checkpoint: one object on S3 that each save replaces as a whole. With
BENCH_KEEPER=modelwright both are those of `modelwright.train`. Rows, network, steps and what it prints are the same.
"""

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_STEPS = 10_000_000
"""It trains until it is ended."""
_HIDDEN = 512
_TELL_SECONDS = 0.2
_COLUMNS = ("hour", "distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
_TARGET, _POSITIVE = "arrival", "late"


def place(uri: str) -> tuple[str, str]:
    """Return bucket and key of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class Plain:
    """What is usual without an operator."""

    def __init__(self, client: Any, checkpoint: str, every: float, rank: int, size: int) -> None:
        self._client = client
        self._checkpoint = place(checkpoint)
        self._every = every
        self._rank, self._size = rank, size
        self._saved = time.monotonic()

    def rows(self, uri: str) -> Any:
        """Return this process's share of the rows; all shares have the same length."""
        import pandas as pd

        bucket, key = place(uri)
        frame = pd.read_parquet(io.BytesIO(self._client.get_object(Bucket=bucket, Key=key)["Body"].read()))
        return frame.iloc[self._rank :: self._size][: len(frame) // self._size]

    def resume(self, **parts: Any) -> int:
        """Load the newest checkpoint into the parts and return the step to go on with."""
        import torch

        bucket, key = self._checkpoint
        try:
            body = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return 0
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])

    def after(self, step: int, loss: Any, **parts: Any) -> None:
        """Save when it is time: on rank 0, which has the same state as all others."""
        if self._rank != 0 or time.monotonic() - self._saved < self._every:
            return
        import torch

        buffer = io.BytesIO()
        torch.save({"step": step + 1, **{name: part.state_dict() for name, part in parts.items()}}, buffer)
        bucket, key = self._checkpoint
        self._client.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())
        self._saved = time.monotonic()


class Kept:
    """The same with `modelwright.train`."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def rows(self, _: str) -> Any:
        """Return this process's share of the rows of `spec.dataset`."""
        return self._session.rows()

    def resume(self, **parts: Any) -> int:
        """Return the step to go on with."""
        return int(self._session.resume(**parts))

    def after(self, step: int, loss: Any, **parts: Any) -> None:
        """Report, and save when it is due."""
        self._session.report(step, loss=loss)
        self._session.checkpoint(step, **parts)


@contextmanager
def plain() -> Iterator[Plain]:
    """Join the group, as torchrun has prepared it."""
    import boto3
    import torch.distributed as dist

    dist.init_process_group("gloo")
    every = float(os.environ["BENCH_EVERY"])
    yield Plain(boto3.client("s3"), os.environ["BENCH_CHECKPOINT"], every, dist.get_rank(), dist.get_world_size())


@contextmanager
def kept() -> Iterator[Kept]:
    """Join the group through the session."""
    from modelwright import train

    with train.session() as session:
        yield Kept(session)


def tensors(frame: Any) -> tuple[Any, Any]:
    """Return features, scaled, of shape [rows, columns], and targets of shape [rows]."""
    import torch

    numbers = torch.tensor(frame[list(_COLUMNS)].fillna(0).to_numpy(dtype="float32", copy=True))
    scaled = (numbers - numbers.mean(0)) / (numbers.std(0) + 1e-6)
    return scaled, torch.tensor((frame[_TARGET] == _POSITIVE).to_numpy(dtype="float32", copy=True))


def learn(keeper: Any, say: Callable[..., None]) -> None:
    """Train without end; a step is one pass over all rows."""
    import torch

    features, target = tensors(keeper.rows(os.environ["BENCH_DATA"]))
    say("read", len(target), "rows")
    torch.manual_seed(0)
    layers = (torch.nn.Linear(len(_COLUMNS), _HIDDEN), torch.nn.ReLU(), torch.nn.Linear(_HIDDEN, _HIDDEN))
    network = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(_HIDDEN, 1))
    model = torch.nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters())
    first = keeper.resume(model=model, optimizer=optimizer)
    say("resumed", first)
    told = 0.0
    for step in range(first, _STEPS):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(features).squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == first or time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            say("step", step + 1)
        keeper.after(step, loss, model=model, optimizer=optimizer)


def main() -> None:
    """Be one process of the gang; rank 0 tells what it does."""

    def say(*words: object) -> None:
        if os.environ.get("RANK", "0") == "0":
            print("bench", *words, flush=True)

    say("began")
    import torch

    if os.environ["BENCH_KEEPER"] == "plain":
        import boto3  # noqa: F401 (a part of what is imported on this side)
        import pandas as pd  # noqa: F401

        opened: Any = plain()
    else:
        from modelwright import train  # noqa: F401

        opened = kept()
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
    say("imported")
    with opened as keeper:
        say("joined")
        learn(keeper, say)


if __name__ == "__main__":
    main()
