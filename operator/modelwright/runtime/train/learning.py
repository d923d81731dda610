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
from modelwright.runtime.train.agentstore import restarts
from modelwright.runtime.train.checkpoints import CheckpointStore, CheckpointWriter
from modelwright.runtime.train.phases import Phase, Phases
from modelwright.runtime.train.progress import Clock
from modelwright.runtime.train.schedule import Schedule
from modelwright.runtime.train.stop import Stop, leave
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


def learn(
    trainer: Trainer, checkpoints: CheckpointStore, around: Surroundings, warm_start: Callable[[], None] | None = None
) -> Learnt:
    """Train to the end. Rank 0 saves when it is due, at the end, and when any process is asked to stop.

    `warm_start` is called where there is no checkpoint to go on from.
    Raises `RunError`: Terminated after a stop, Diverged when the loss is no number, PeerLost.
    """
    resumed = resume(trainer, checkpoints, around.world)
    if resumed is None and warm_start is not None:
        warm_start()
    saver = _Saver(trainer, checkpoints, around)
    clock = Clock(trainer, around.now)
    due = _Timer(around)
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
            farewell = leave(trainer.step, around.world, saver.save_last)
            if around.world.leads:
                around.reporter.send(report(around, Learnt(clock, saver.last, resumed)))
            raise farewell
        if not around.world.leads:
            continue
        if due.report():
            _require_finite(trainer)
            around.reporter.send(report(around, Learnt(clock, saver.last, resumed)))
        saver.save_if_due()
    around.watchdog.close()
    if trainer.step > clock.first_step:
        _require_finite(trainer)
        if around.world.leads:
            around.reporter.send(report(around, Learnt(clock, saver.last, resumed)))
        # Saved here too, so that a crash while evaluating costs the evaluation alone.
        saver.save_last()
    around.phases.enter(Phase.EVALUATING)
    return Learnt(clock, saver.last, resumed)


def report(around: Surroundings, learnt: Learnt, stage: str = "Training") -> TrainingReport:
    """Return what the operator is told."""
    return TrainingReport(
        attempt=around.run.attempt,
        progress=learnt.clock.progress(),
        checkpoint=learnt.checkpoint,
        resumed_from_step=learnt.resumed_from_step,
        stage=stage,
        spent=around.phases.spent(),
        longest_step=around.watchdog.longest_step,
        quiet=around.watchdog.is_quiet,
        restarts=restarts(),
    )


class _Timer:
    def __init__(self, around: Surroundings) -> None:
        self._now = around.now
        self._reported = -math.inf

    def report(self) -> bool:
        if self._now() - self._reported < _REPORT_SECONDS:
            return False
        self._reported = self._now()
        return True


class _Saver:
    """Rank 0 saves; the others have the same state and nothing to do."""

    def __init__(self, trainer: Trainer, checkpoints: CheckpointStore, around: Surroundings) -> None:
        self._trainer = trainer
        self._checkpoints = checkpoints
        self._leads = around.world.leads
        self._phases = around.phases
        spec = around.run.training.checkpoint
        self._measures = spec.keep.best is not None
        self._schedule = Schedule(spec, trainer.step, around.now)
        self._writer = CheckpointWriter()

    @property
    def last(self) -> CheckpointStatus | None:
        return self._writer.last

    def save_if_due(self) -> None:
        # A save that has to wait for another one is still due afterwards.
        if not self._writer.busy and self._schedule.due(self._trainer.step):
            with self._phases.standing_still():
                self._save()

    def save_last(self) -> bool:
        """Save and wait for it; return whether it is there."""
        if not self._leads:
            return True
        with self._phases.standing_still():
            self._save()
            self._writer.wait()
        return self._writer.saved_step == self._trainer.step

    def _save(self) -> None:
        step, files = self._trainer.step, self._trainer.capture()
        # The loss may take a pass over the rows.
        loss = self._trainer.loss if self._measures else math.nan
        metrics = {"loss": loss} if math.isfinite(loss) else {}
        self._schedule.saved(step)
        self._writer.save(step, lambda: self._checkpoints.save(step, files(), metrics))


def _require_finite(trainer: Trainer) -> None:
    if not math.isfinite(trainer.loss):
        raise RunError(
            "Diverged", f"The loss is no number at step {trainer.step}: lower the learning rate", retryable=False
        )
