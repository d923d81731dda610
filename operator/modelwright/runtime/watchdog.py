"""Notices that a process makes no step any more. It knows steps and time, and nothing of what is trained."""

import contextlib
import faulthandler
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LEAST_SECONDS, MOST_SECONDS = 300.0, 86400.0
"""Bounds of what is learnt: a step of milliseconds may still wait for a busy disk or a slow network."""
START_SECONDS = 3600.0
"""For all that is no step: reading data, finding the others, compiling, saving."""
_FACTOR = 20
_REMEMBERED = 1000
_ENOUGH = 5
"""Steps from which something can be learnt."""
_TICK_SECONDS = 1.0
_ARM_SECONDS = 5.0
_GRACE_SECONDS = 120.0
"""So much later than the thread would, the backstop fires: what follows upon a hang may take its time."""


@dataclass(frozen=True)
class Standstill:
    """No step for too long."""

    seconds: float
    step: int | None
    """The last step that was made; None before the first."""


class Patience:
    """How long a step may take, from how long the last steps of this attempt took."""

    def __init__(self, timeout: float | None = None, least: float = LEAST_SECONDS, *, extra: float = 0.0) -> None:
        """`least`: seconds for a step, whatever is learnt; `extra`: seconds more for what is no step."""
        self._timeout = timeout
        self._least = least
        self._extra = extra
        self._seconds = [0.0] * _REMEMBERED
        self._count = 0

    def learn(self, seconds: float) -> None:
        """Take a step into account."""
        self._seconds[self._count % _REMEMBERED] = seconds
        self._count += 1

    @property
    def longest(self) -> float:
        """Seconds of the longest of the last steps; 0 where there were none."""
        return max(self._seconds)

    @property
    def long(self) -> float:
        """Seconds for what is no step."""
        return max(START_SECONDS, 2 * (self._timeout or 0.0)) + self._extra

    @property
    def limit(self) -> float:
        """Seconds for a step."""
        if self._timeout is not None:
            return self._timeout
        if self._count < _ENOUGH:
            return self.long
        return min(max(self._least, _FACTOR * self.longest), MOST_SECONDS)


class Watchdog:
    """Told of every step by the thread that makes it, and calls `on_hang` from another when none comes for too long.

    Not started, it does nothing. Code that holds the interpreter for good lets no other Python thread run: then, two
    minutes after its time, a thread of C writes all stacks to the file `backstop` and ends the process with code 1.
    """

    def __init__(
        self,
        patience: Patience | None = None,
        on_hang: Callable[[Standstill], None] = lambda _: None,
        now: Callable[[], float] = time.monotonic,
        backstop: int = 2,
    ) -> None:
        self._patience = patience or Patience()
        self._on_hang = on_hang
        self._now = now
        self._backstop = backstop
        self._stepping = False
        self._step: int | None = None
        self._last = self._awake = now()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch; until the first step, with patience."""
        self._thread.start()

    def beat(self, step: int) -> None:
        """Take note of a step that was made."""
        now = self._now()
        if self._stepping:
            self._patience.learn(now - self._last)
        self._last, self._step, self._stepping = now, step, True

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Be patient with what is no step, such as a save that training waits for.

        Every process of a gang has to say so: those that wait for one that saves make no step either.
        """
        stepping, self._stepping, self._last = self._stepping, False, self._now()
        try:
            yield
        finally:
            self._last, self._stepping = self._now(), stepping

    @property
    def is_quiet(self) -> bool:
        """Whether no step is due: none was made yet, something else is done, or the last one was made."""
        return not self._stepping or self._closed.is_set()

    @property
    def longest_step(self) -> float:
        """Seconds of the longest of the last steps; 0 where there were none."""
        return self._patience.longest

    def close(self) -> None:
        """Stop watching; what comes now is not made of steps."""
        self._closed.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def look(self, gap: float = 0.0) -> Standstill | None:
        """Return what is wrong, if something is.

        `gap`: seconds that this thread slept for too long. A machine that stood still as a whole, or was stopped, gave
        the program no time either.
        """
        now = self._now()
        if gap > _ARM_SECONDS:
            self._awake = now
        seconds = now - max(self._last, self._awake)
        return Standstill(seconds, self._step) if seconds > self._limit else None

    @property
    def _limit(self) -> float:
        return self._patience.limit if self._stepping else self._patience.long

    def _watch(self) -> None:
        armed = woken = -float("inf")
        while not self._closed.wait(_TICK_SECONDS):
            before, woken = woken, time.monotonic()
            found = self.look(woken - before - _TICK_SECONDS if before > 0 else 0.0)
            if found is not None or woken - armed >= _ARM_SECONDS:
                # Whoever gets here holds the interpreter: the backstop begins anew.
                faulthandler.dump_traceback_later(self._limit + _GRACE_SECONDS, exit=True, file=self._backstop)
                armed = woken
            if found is not None:
                self._on_hang(found)
                break
        faulthandler.cancel_dump_traceback_later()
