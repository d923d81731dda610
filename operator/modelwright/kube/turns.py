"""Turns: how many looks at once may wait for a store, or hold much of what one answered."""

import asyncio
from collections.abc import Hashable
from functools import partial
from weakref import WeakKeyDictionary, WeakValueDictionary


class Busy(Exception):  # noqa: N818 (it says how things are)
    """Others have had their turns for too long: nothing is wrong, and later there may be one."""


class Turns:
    """Turns at any number of places. Who comes first is served first; a task keeps what it has until it ends."""

    def __init__(self) -> None:
        self._places: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()
        self._kept: WeakKeyDictionary[asyncio.Task[object], dict[Hashable, asyncio.Semaphore]] = WeakKeyDictionary()

    async def take(self, *places: tuple[Hashable, int]) -> None:
        """Wait for a turn at each of some places, in this order; with each goes how many may be there."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (who waits is one)
        kept = self._kept.setdefault(task, {})
        for name, size in places:
            if name not in kept:
                place = self._places.setdefault(name, asyncio.Semaphore(size))
                await place.acquire()
                kept[name] = place
                task.add_done_callback(partial(_leave, place))


def _leave(place: asyncio.Semaphore, _: asyncio.Task[object]) -> None:
    place.release()
