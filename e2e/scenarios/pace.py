"""How fast the machine trains, so that a job which is to be interrupted lasts long enough on a fast one, and not
longer than needed on a slow one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from e2e.support.journal import Entry

_FEWEST_STEPS, _MOST_STEPS = 40, 2000
_SLOWEST = 0.1
"""Seconds. A step that took longer was held up by others, who may be gone when the next job trains."""


@dataclass(frozen=True)
class Pace:
    """The pace of `specs.network` on two pods; on one pod a step takes as long, or up to twice as long."""

    seconds_per_step: float

    def steps(self, seconds: float) -> int:
        """Return how many steps last at least so many seconds, start-up of the pods aside."""
        if self.seconds_per_step <= 0:
            return _MOST_STEPS
        pace = min(self.seconds_per_step, _SLOWEST)
        return min(max(math.ceil(seconds / pace), _FEWEST_STEPS), _MOST_STEPS)


def pace_of(entries: Sequence[Entry]) -> Pace:
    """Return the pace of a job as it told itself, at its best: the statuses of a short one say too little of times."""
    told = [entry.object.get("status", {}).get("progress", {}).get("secondsPerStep") for entry in entries]
    return Pace(min((float(pace) for pace in told if pace is not None), default=0.0))
