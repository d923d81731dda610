"""The queue of keys: one reconcile at a time per object, many objects at once, and no change is ever lost.

`Schedule` decides and is pure (time is an argument); `run` in this module is the loop around it.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from modelwright.kube.objects import Key

_FIRST_RETRY = 1.0
_LONGEST_RETRY = 300.0
_SLACK = 64


@dataclass(frozen=True)
class Outcome:
    """What a reconcile wants next."""

    result: str = "done"
    """A word for the metrics."""
    wake_after: float | None = None
    """Seconds until another look; None: a change will tell."""
    retry: bool = False
    """It failed: look again with back-off."""
    retry_after: float = 0.0
    """Then not earlier than after so many seconds: the API server asked for that."""


class Schedule:
    """Which key is next, and when."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._ready: dict[Key, float] = {}
        """In order of arrival, with the time of it."""
        self._active: dict[Key, float] = {}
        self._changed: dict[Key, float] = {}
        """Changed while being reconciled."""
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._serial = itertools.count()
        self._failures: dict[Key, int] = {}

    def add(self, key: Key, now: float) -> None:
        """A key has changed: it is reconciled as soon as may be, once, however often it is added before that."""
        if key in self._active:
            self._changed.setdefault(key, now)
        else:
            self._ready.setdefault(key, now)

    def add_at(self, key: Key, due: float) -> None:
        """A key wants a look at a time; of several times the earliest counts."""
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._serial), key))
            if len(self._heap) > 2 * len(self._due) + _SLACK:
                # Times that were given up go when they are next, which those of deadlines are not for days.
                self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
                heapq.heapify(self._heap)

    def pop(self, now: float) -> Key | None:
        """Return the key to reconcile now, if there is one; it is active until `finish`."""
        self._ripen(now)
        key = next(iter(self._ready), None)
        if key is None:
            return None
        del self._ready[key]
        self._due.pop(key, None)
        self._active[key] = now
        return key

    def finish(self, key: Key, outcome: Outcome, now: float) -> None:
        """An active key is done; what came in meanwhile is next."""
        del self._active[key]
        changed = self._changed.pop(key, None)
        if changed is not None:
            self._ready.setdefault(key, changed)
        if outcome.retry:
            self.add_at(key, now + max(self._backoff(key), min(_LONGEST_RETRY, outcome.retry_after)))
            return
        self._failures.pop(key, None)
        if outcome.wake_after is not None:
            self.add_at(key, now + outcome.wake_after)

    def next_due(self) -> float | None:
        """Return the time of the next wake-up."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def depth(self) -> int:
        """Return how many keys could be reconciled now, if there were hands."""
        return len(self._ready)

    def active(self) -> int:
        """Return how many keys are being reconciled."""
        return len(self._active)

    def oldest(self, now: float) -> float:
        """Return how long the longest-waiting key has waited, in seconds."""
        return now - next(iter(self._ready.values())) if self._ready else 0.0

    def _ripen(self, now: float) -> None:
        while (due := self.next_due()) is not None and due <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            self.add(key, due)

    def _backoff(self, key: Key) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return min(_LONGEST_RETRY, _FIRST_RETRY * 2.0 ** min(failures - 1, 20)) * (0.5 + 0.5 * self._jitter())


class Queue:
    """A schedule and the loop that works it off."""

    def __init__(self, concurrency: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.schedule = Schedule()
        self.last_progress = clock()
        """When a reconcile last began or ended."""
        self._hands = asyncio.Semaphore(concurrency)
        self._clock = clock
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Have a key reconciled, now or after some seconds."""
        now = self._clock()
        if delay > 0:
            self.schedule.add_at(key, now + delay)
        else:
            self.schedule.add(key, now)
        self._wake.set()

    async def run(self, reconcile: Callable[[Key], Awaitable[Outcome]]) -> None:
        """Reconcile keys until cancelled; what is under way then is waited for."""
        try:
            while True:
                await self._start(reconcile)
                self._wake.clear()
                due = self.schedule.next_due() if self._has_hands() else None
                timeout = None if due is None else max(0.0, due - self._clock())
                try:
                    async with asyncio.timeout(timeout):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks)

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[None]:
        """Let another key have the hand of a reconcile that waits for what may be long in coming."""
        self._hands.release()
        self._wake.set()
        try:
            yield
        finally:
            await self._hands.acquire()

    def oldest(self) -> float:
        """Return how long the longest-waiting key has waited, in seconds."""
        return self.schedule.oldest(self._clock())

    def stands_still(self, limit: float) -> bool:
        """Return whether some key has waited so many seconds while no reconcile began or ended."""
        return self.oldest() > limit and self._clock() - self.last_progress > limit

    def _has_hands(self) -> bool:
        # Those that were lent out and are wanted back go first.
        return not self._hands.locked()

    async def _start(self, reconcile: Callable[[Key], Awaitable[Outcome]]) -> None:
        while self._has_hands() and (key := self.schedule.pop(self._clock())) is not None:
            await self._hands.acquire()
            self.last_progress = self._clock()
            task = asyncio.create_task(self._work(key, reconcile))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, key: Key, reconcile: Callable[[Key], Awaitable[Outcome]]) -> None:
        outcome = Outcome(result="cancelled", retry=True)
        try:
            outcome = await reconcile(key)
        finally:
            now = self._clock()
            self.last_progress = now
            self._hands.release()
            self.schedule.finish(key, outcome, now)
            self._wake.set()
