"""How far training is, and when it will be done."""

import math
import time
from collections.abc import Callable

from modelwright.api.trainingjob import Progress
from modelwright.runtime.train.trainer import Trainer


class Clock:
    """Tells the progress of a trainer; the pace is that of this attempt alone."""

    def __init__(self, trainer: Trainer, now: Callable[[], float] = time.monotonic) -> None:
        self._trainer = trainer
        self._now = now
        self._started = now()
        self.first_step = trainer.step
        """Where this attempt began."""

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
            eta_seconds=self._eta(),
        )

    def _eta(self) -> int | None:
        done = self._trainer.step - self.first_step
        if not done:
            return None
        pace = (self._now() - self._started) / done
        return round(pace * (self._trainer.total_steps - self._trainer.step))
