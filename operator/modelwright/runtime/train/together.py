"""What the processes that torchrun starts in the pods of a gang share beside their collectives: its store.

It is kept by the agent of the first pod, so it outlives all of them, and what they call things is new in each restart.
"""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from modelwright.runtime.train.stop import Stop, terminated

_DONE = "modelwright/done"
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two looks whether rank 0 is done."""


def restarts() -> int:
    """Return how often the processes of this attempt have started again in their pods."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def kept_by_agent() -> bool:
    """Tell whether there is such a store; Ray has none that outlives its workers."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)


def connect(timeout: timedelta = timedelta(minutes=5)) -> Any:
    """Return a connection to the `torch.distributed.TCPStore` that torchrun or Ray has brought up."""
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timeout)


def fresh_store(timeout: timedelta) -> Any:
    """Return the store in which processes of this restart find each other.

    The addresses of those before them are still in the store, and nobody answers there.
    """
    from torch.distributed import PrefixStore

    return PrefixStore(f"modelwright/restart-{restarts()}", connect(timeout))


def leave(store: Any) -> None:
    """Say, as rank 0, that nothing is left to do."""
    store.add(_key(), 1)


def stay(store: Any, stop: Stop, step: int, sleep: Callable[[float], None] = time.sleep) -> None:
    """Stay until rank 0 has left: an agent whose processes are gone does not start them again, should rank 0 be killed.

    Raises `RunError` Terminated when asked to leave.
    """
    pause = _SHORTEST_PAUSE
    while not store.check([_key()]):
        if stop.requested:
            raise terminated(step)
        sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _key() -> str:
    return f"{_DONE}/{restarts()}"
