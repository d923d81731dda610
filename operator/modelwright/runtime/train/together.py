"""Who has trained stays until rank 0 is done, for an agent whose processes are gone does not start them again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modelwright.runtime.train.agentstore import connect, kept_by_agent, restarts
from modelwright.runtime.train.stop import Stop, terminated
from modelwright.runtime.train.world import World, lost_peers

_DONE = "modelwright/done"
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two looks whether rank 0 is done."""


@contextmanager
def until_all_are_done(world: World, stop: Stop, step: int) -> Iterator[None]:
    """Hold the others until rank 0 has left the block. Raises `RunError` PeerLost or Terminated."""
    if world.size == 1 or not kept_by_agent():
        yield
        return
    with lost_peers():
        store = connect()
    yield
    with lost_peers():
        if world.leads:
            leave(store)
        else:
            stay(store, stop, step)


def leave(store: Any) -> None:
    """Say, as rank 0, that nothing is left to do."""
    store.add(_key(restarts()), 1)


def stay(store: Any, stop: Stop, step: int, sleep: Callable[[float], None] = time.sleep) -> None:
    """Stay until rank 0 has left, should it be killed before.

    Raises `RunError` Terminated when asked to leave.
    """
    pause = _SHORTEST_PAUSE
    while not is_done(store, restarts()):
        if stop.requested:
            raise terminated(step)
        sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def is_done(store: Any, restart: int) -> bool:
    """Tell whether rank 0 has left, after so many restarts in place."""
    return bool(store.check([_key(restart)]))


def _key(restart: int) -> str:
    return f"{_DONE}/{restart}"
