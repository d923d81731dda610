"""From a trainer at step 0 to a trained one, through interruptions: resume, save, report, stop."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from modelwright.api.run import Run, TrainingReport
from modelwright.api.trainingjob import CheckpointStatus
from modelwright.runtime.failure import RunError, at_step
from modelwright.runtime.report import Reporter
from modelwright.runtime.train.checkpoints import CheckpointStore, CheckpointWriter
from modelwright.runtime.train.phases import Phase, Phases
from modelwright.runtime.train.progress import Clock
from modelwright.runtime.train.stop import Stop, terminated
from modelwright.runtime.train.together import restarts
from modelwright.runtime.train.trainer import Trainer
from modelwright.runtime.train.world import World
from modelwright.runtime.watchdog import Watchdog

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 1.0


@dataclass(frozen=True)
class Surroundings:
    """What a process of the gang works in."""

    run: Run
    world: World
    stop: Stop
    reporter: Reporter
    now: Callable[[], float] = time.monotonic
    watchdog: Watchdog = field(default_factory=Watchdog)
    """It is told of every step, and watches for no longer than there are some."""
    phases: Phases = field(default_factory=Phases)


def resume(trainer: Trainer, checkpoints: CheckpointStore, world: World) -> int | None:
    """Bring every process to the newest checkpoint and return its step; None when training starts anew."""
    found = checkpoints.newest() if world.leads else None
    step = world.agree(found.step if found else None)
    if step is None:
        if world.leads:
            checkpoints.discard()
        return None
    if not world.leads:
        found = checkpoints.read(step)
    if found is None:
        raise RunError("CheckpointLost", f"Checkpoint {step} was there and is gone", retryable=True)
    trainer.restore(step, found.files)
    logger.info("resumed from the checkpoint of step %d", step)
    return int(step)


@dataclass(frozen=True)
class Learnt:
    """How training ended."""

    clock: Clock
    checkpoint: CheckpointStatus | None
    resumed_from_step: int | None


def learn(trainer: Trainer, checkpoints: CheckpointStore, around: Surroundings) -> Learnt:
    """Train to the end. Rank 0 saves on a timer, at the end, and when any process is asked to stop.

    Raises `RunError`: Terminated after a stop, Diverged when the loss is no number, PeerLost.
    """
    resumed = resume(trainer, checkpoints, around.world)
    writer = CheckpointWriter(checkpoints)
    clock = Clock(trainer, around.now)
    due = _Timers(around)
    while trainer.step < trainer.total_steps:
        try:
            stopping = trainer.advance(around.stop.requested)
        except Exception as error:
            at_step(error, trainer.step)
            raise
        around.watchdog.beat(trainer.step)
        # After the first step, which makes whatever is made at first use: kernels, connections, caches.
        around.phases.enter(Phase.TRAINING)
        if stopping:
            around.watchdog.close()
            _save_last(trainer, writer, around)
            around.reporter.send(report(around, Learnt(clock, writer.last, resumed)))
            raise terminated(trainer.step)
        if not around.world.leads:
            continue
        if due.report():
            _require_finite(trainer)
            around.reporter.send(report(around, Learnt(clock, writer.last, resumed)))
        # Asked in this order: a timer that is asked starts anew, and a save that has to wait is still due.
        if not writer.busy and due.checkpoint():
            with around.phases.standing_still():
                writer.save(trainer.step, trainer.capture())
    around.watchdog.close()
    if trainer.step > clock.first_step:
        _require_finite(trainer)
        # Saved here too, so that a crash while evaluating costs the evaluation alone.
        _save_last(trainer, writer, around)
    around.phases.enter(Phase.EVALUATING)
    return Learnt(clock, writer.last, resumed)


def report(around: Surroundings, learnt: Learnt, stage: str = "Training") -> TrainingReport:
    """Return what the operator is told."""
    return TrainingReport(
        attempt=around.run.attempt,
        progress=learnt.clock.progress(),
        checkpoint=learnt.checkpoint,
        resumed_from_step=learnt.resumed_from_step,
        stage=stage,
        spent=around.phases.spent(),
        restarts=restarts(),
    )


class _Timers:
    def __init__(self, around: Surroundings) -> None:
        self._now = around.now
        self._every = around.run.training.checkpoint.every_seconds
        self._saved = around.now()
        self._reported = -math.inf

    def checkpoint(self) -> bool:
        if self._now() - self._saved < self._every:
            return False
        self._saved = self._now()
        return True

    def report(self) -> bool:
        if self._now() - self._reported < _REPORT_SECONDS:
            return False
        self._reported = self._now()
        return True


def _save_last(trainer: Trainer, writer: CheckpointWriter, around: Surroundings) -> None:
    if around.world.leads:
        with around.phases.standing_still():
            writer.save(trainer.step, trainer.capture())
            writer.wait()


def _require_finite(trainer: Trainer) -> None:
    if not math.isfinite(trainer.loss):
        raise RunError(
            "Diverged", f"The loss is no number at step {trainer.step}: lower the learning rate", retryable=False
        )
