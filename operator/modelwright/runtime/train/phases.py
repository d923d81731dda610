"""What this process spends its time on: starting, training, saving, evaluating."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from modelwright.api.goodput import Spent

logger = logging.getLogger(__name__)

_START_TIME_FIELD = 22
"""Of /proc/[pid]/stat, counted from 1 (proc_pid_stat(5)): clock ticks from boot to the start of the process."""


class Phase(StrEnum):
    """What a process is at; the fields of `Spent`."""

    STARTING = "starting"
    TRAINING = "training"
    SAVING = "saving"
    EVALUATING = "evaluating"


class Phases:
    """Keeps the time. A process is in one phase at any moment, from its start, so the phases add up to its age."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        age: float = 0.0,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._now = now
        self._since = (today() - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._entered = now() - age
        self._phase = Phase.STARTING
        self._seconds = dict.fromkeys(Phase, 0.0)

    def enter(self, phase: Phase) -> None:
        """Begin a phase; one that is under way goes on."""
        now = self._now()
        self._seconds[self._phase] += max(0.0, now - self._entered)
        if (self._phase, phase) == (Phase.STARTING, Phase.TRAINING):
            logger.info("the first step was made %.1f s after the process began", self._seconds[Phase.STARTING])
        self._entered, self._phase = now, phase

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Count what is done inside as saving, and then go on with what was under way."""
        before = self._phase
        self.enter(Phase.SAVING)
        try:
            yield
        finally:
            self.enter(before)

    def spent(self) -> Spent:
        """Return the seconds of each phase up to now."""
        self.enter(self._phase)
        return Spent(since=self._since, **{str(phase): round(value, 3) for phase, value in self._seconds.items()})


def of_this_process() -> Phases:
    """Return the phases of this process, which began before Python did."""
    return Phases(age=age_of_process())


def age_of_process(proc: Path = Path("/proc")) -> float:
    """Return for how many seconds this process has been there; 0 where the system does not tell."""
    try:
        # The name of the program comes second, in brackets, and may hold anything.
        fields = (proc / "self/stat").read_text().rpartition(")")[2].split()
        uptime = float((proc / "uptime").read_text().split()[0])
        # What is left of the line begins with the third field.
        started = int(fields[_START_TIME_FIELD - 3]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, uptime - started)
