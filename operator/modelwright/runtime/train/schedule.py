"""When the next checkpoint is due."""

import time
from collections.abc import Callable

from modelwright.api.checkpoint import Checkpoint


class Schedule:
    """Tells when a checkpoint is due: by steps, which every process counts alike, or by a clock, which only one has."""

    def __init__(self, spec: Checkpoint, step: int, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._steps = spec.seconds, spec.every_steps
        self._now = now
        self._last_step, self._last_time = step, now()

    def due(self, step: int) -> bool:
        """Tell whether a checkpoint is due after so many steps."""
        return self.due_by_steps(step) or self.due_by_time()

    def due_by_steps(self, step: int) -> bool:
        """Tell whether a multiple of `everySteps` was reached since the last checkpoint."""
        return self._steps is not None and step // self._steps > self._last_step // self._steps

    def due_by_time(self) -> bool:
        """Tell whether `everySeconds` have passed since the last checkpoint."""
        return self._seconds is not None and self._now() - self._last_time >= self._seconds

    def saved(self, step: int) -> None:
        """Begin anew: a checkpoint of so many steps is being written."""
        self._last_step, self._last_time = step, self._now()
