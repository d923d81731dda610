"""What each process of a recipe looks at before it trains, so that what is broken is named and not merely met.

The storage (worker 0), the GPUs (all), and one collective of all. A process that finds something wrong says so to the
others through the store that torchrun or Ray has brought up, and they do not wait for it.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from modelwright.api.run import PEER_LOST, PREFLIGHT_FAILED, Run
from modelwright.api.trainingjob import Framework
from modelwright.api.variables import GPUS_VARIABLE, NODE_VARIABLE
from modelwright.registry.errors import StoreError
from modelwright.registry.probe import require_conditional_writes
from modelwright.registry.store import ObjectStore
from modelwright.runtime.failure import RunError, on_node
from modelwright.runtime.preflight import whoami
from modelwright.runtime.train.agentstore import connect, restarts
from modelwright.runtime.train.stop import Stop, terminated
from modelwright.runtime.train.world import World, lost_peers

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
"""Seconds between two looks whether the others have come."""
_NAMED = 5
_SIDE = 256
_GONE = ("closed by peer", "connection reset", "broken pipe")


def check(run: Run, world: World, store: ObjectStore, stop: Stop) -> None:
    """Raise `RunError` PreflightFailed, which names the worker, its node and the check; PeerLost when a peer failed.

    Raises `StoreError` where the checks are not wanted and the store is not fit to write versions to.
    """
    wanted = run.training.preflight
    if not wanted.enabled:
        if world.leads:
            require_conditional_writes(store)
        return
    begun = time.monotonic()
    ours = partial(_own_checks, run, world, store)
    if world.size == 1:
        ours()
    else:
        roll = RollCall(world, _round(run, world), connect())
        with lost_peers():
            roll.answer(ours, wanted.timeout_seconds, stop)
        collective(world, wanted.timeout_seconds)
    logger.info("preflight passed in %.2f s", time.monotonic() - begun)


def _round(run: Run, world: World) -> str:
    """Return a name under which no earlier processes have called: torchrun's store outlives those that it restarts."""
    return f"{run.uid}-{run.attempt}-{restarts()}-{world.size}"


def _own_checks(run: Run, world: World, store: ObjectStore) -> None:
    # Under Ray, workers of pods with GPUs may be told to train on CPUs.
    on_cpus = run.training.ray is not None and run.training.ray.resources_per_worker.gpu == 0
    expected = 0 if on_cpus else int(os.environ.get(GPUS_VARIABLE, "0"))
    gpu(world, expected, shared=run.training.framework is Framework.RAY)
    if world.leads:
        storage(store)


def storage(store: ObjectStore) -> None:
    """Write a small object on conditions, and delete it."""
    try:
        require_conditional_writes(store)
    except StoreError as error:
        raise _failed("storage", error.message, retryable=error.retryable) from error


def gpu(world: World, expected: int, *, shared: bool) -> None:
    """Count the GPUs and multiply two matrices on the one of this process.

    `shared` means that the processes of a pod see one GPU each (Ray), not all of the `expected`.
    """
    if world.device == "cpu":
        if expected:
            raise _failed("GPU", f"torch sees none, though the pod has {expected}: check the driver and the image")
        return
    import torch

    seen = torch.cuda.device_count()
    if seen < (1 if shared else expected):
        raise _failed("GPU", f"torch sees {seen} of {expected}")
    try:
        ones = torch.ones(_SIDE, _SIDE, device=world.device)
        product = float((ones @ ones)[0, 0])
    except RuntimeError as error:
        raise _failed("GPU", f"{world.device}: {_first_line(error)}") from error
    if product != _SIDE:
        raise _failed("GPU", f"{world.device} multiplies wrongly: {product} instead of {_SIDE}")


def collective(world: World, timeout_seconds: float) -> None:
    """Add up the ranks over all processes."""
    import torch

    mine = torch.tensor([float(world.rank)], dtype=torch.float64, device=world.device)
    try:
        work: Any = torch.distributed.all_reduce(mine, async_op=True)
        work.wait(timedelta(seconds=timeout_seconds))
        total = float(mine.item())
    except RuntimeError as error:
        if any(words in str(error).lower() for words in _GONE):
            raise RunError(PEER_LOST, "Another worker left during the preflight", retryable=True) from error
        failure = _failed("collective", f"{world.size} processes cannot reach each other: {_first_line(error)}")
        # Which of them is to blame, none of them can tell.
        on_node(failure, "")
        raise failure from error
    wanted = world.size * (world.size - 1) / 2
    if total != wanted:
        raise _failed("collective", f"the sum of all ranks is {total}, not {wanted}")


@dataclass(frozen=True)
class RollCall:
    """Where processes say that they have begun, and that they are ready; each kind of news is under a key of its own.

    `store` is a `torch.distributed.Store`.
    """

    world: World
    name: str
    store: Any
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def answer(self, checks: Callable[[], None], timeout_seconds: float, stop: Stop) -> None:
        """Make the own checks, and wait until all processes have made theirs."""
        me = {"node": os.environ.get(NODE_VARIABLE, ""), "who": whoami()}
        self.store.set(self._key(self.world.rank), json.dumps(me))
        try:
            checks()
        except RunError as error:
            self.store.set(self._key("failed"), error.message)
            raise
        self.store.set(self._key(f"{self.world.rank}/ready"), "1")
        # One key to wait for: with one for each, a thousand processes would ask a million times.
        if self.store.add(self._key("count"), 1) == self.world.size:
            self.store.set(self._key("all"), "1")
        self._wait(timeout_seconds, stop)

    def _wait(self, timeout_seconds: float, stop: Stop) -> None:
        # Asked again and again: the store's own wait does not end for SIGTERM, and warns of every one in vain.
        deadline, pause = self.now() + timeout_seconds, _SHORTEST_PAUSE
        while not self.store.check([self._key("all")]):
            # First: whoever failed is why this one is asked to stop.
            if self.store.check([self._key("failed")]):
                why = self.store.get(self._key("failed")).decode()
                raise RunError(PEER_LOST, f"Another worker did not pass its preflight: {why}", retryable=True)
            if stop.requested:
                raise terminated(0)
            if self.now() >= deadline:
                raise self._absent(timeout_seconds)
            self.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _absent(self, timeout_seconds: float) -> RunError:
        """Return the failure that names the processes which have not come."""
        ranks = [rank for rank in range(self.world.size) if not self.store.check([self._key(f"{rank}/ready")])]
        # A worker of many processes is named once.
        found = list(dict.fromkeys(self._entry(rank) for rank in ranks))
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        who, nodes = ", ".join(name for name, _ in found[:_NAMED]), {node for _, node in found}
        message = f"{who}{more}: not ready {timeout_seconds:g} s after {whoami()}"
        failure = RunError(PREFLIGHT_FAILED, message, retryable=True)
        on_node(failure, nodes.pop() if len(nodes) == 1 else "")
        return failure

    def _entry(self, rank: int) -> tuple[str, str]:
        """Return the name and the node of a process."""
        if not self.store.check([self._key(rank)]):
            return f"the process of rank {rank}, which never began", ""
        said = json.loads(self.store.get(self._key(rank)))
        return str(said["who"]), str(said["node"])

    def _key(self, what: object) -> str:
        return f"modelwright/preflight/{self.name}/{what}"


def _failed(check: str, what: str, *, retryable: bool = True) -> RunError:
    failure = RunError(PREFLIGHT_FAILED, f"{whoami()}: {check}: {what}", retryable=retryable)
    # Under Ray it is the driver in another pod that says so.
    if node := os.environ.get(NODE_VARIABLE):
        on_node(failure, node)
    return failure


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
