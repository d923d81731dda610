"""How far training is, and when it will be done."""

import math
import time
from collections.abc import Callable

from modelwright.api.trainingjob import Progress
from modelwright.runtime.train.trainer import Trainer


class Pace:
    """How fast steps were made since a first one."""

    def __init__(self, first_step: int, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._started = now()
        self.first_step = first_step

    def seconds_per_step(self, step: int) -> float | None:
        """Return what a step took on the average, after so many steps; None before one was made."""
        if step <= self.first_step:
            return None
        return float(f"{(self._now() - self._started) / (step - self.first_step):.4g}")

    def eta(self, step: int, total: int) -> int | None:
        """Return the seconds that are left after so many steps; None before one was made."""
        pace = self.seconds_per_step(step)
        return None if pace is None else round(pace * max(0, total - step))


class Clock:
    """Tells the progress of a trainer; the pace is that of this attempt alone."""

    def __init__(self, trainer: Trainer, now: Callable[[], float] = time.monotonic) -> None:
        self._trainer = trainer
        self._pace = Pace(trainer.step, now)

    @property
    def first_step(self) -> int:
        """Where this attempt began."""
        return self._pace.first_step

    def progress(self) -> Progress:
        """Return where the trainer is; `epoch` counts the one under way from 1."""
        trainer = self._trainer
        epochs = math.ceil(trainer.total_steps / trainer.steps_per_epoch)
        loss = trainer.loss
        return Progress(
            step=trainer.step,
            total_steps=trainer.total_steps,
            epoch=min(trainer.step // trainer.steps_per_epoch + 1, epochs),
            epochs=epochs,
            loss=loss if math.isfinite(loss) else None,
            seconds_per_step=self._pace.seconds_per_step(trainer.step),
            eta_seconds=self._pace.eta(trainer.step, trainer.total_steps),
        )
