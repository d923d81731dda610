"""What a training loop of the user's own says and asks, between two steps."""

import hashlib
import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright.api.run import TERMINATION_MESSAGE_FILE, Run, TrainingReport
from modelwright.api.schema import LARGEST_COUNT
from modelwright.api.trainingjob import Progress, ReportedMetric
from modelwright.registry.store import ObjectStore
from modelwright.runtime.failure import EXIT_TERMINATED, at_step, explain, leave_behind
from modelwright.runtime.hang import COLLECTIVE_TIMEOUT
from modelwright.runtime.report import Reporter
from modelwright.runtime.train.checkpoints import CheckpointStore
from modelwright.runtime.train.phases import Phase, Phases
from modelwright.runtime.train.progress import Pace
from modelwright.runtime.train.schedule import Schedule
from modelwright.runtime.train.stop import Stop, leave
from modelwright.runtime.train.world import World
from modelwright.runtime.watchdog import Watchdog
from modelwright.train._control import Control
from modelwright.train._rows import Rows
from modelwright.train._saving import Saver

if TYPE_CHECKING:
    from modelwright.train._shards import Capture

_FINGERPRINT = "modelwright.train"
_REPORT_SECONDS = 1.0
_MOST_METRICS = 16
_LONGEST_NAME = 63


def _shortened(name: str) -> str:
    """Return a name that a status takes. Those of layers differ at their ends, and no two may be the same there."""
    if len(name) <= _LONGEST_NAME:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - len(mark) - 1]}~{mark}"


def _countable(number: int | None) -> int | None:
    """Return a number that a status takes; None for one that only says that there is no end to it."""
    return None if number is None or number > LARGEST_COUNT else number


class Stopped(SystemExit):
    """Raised by `Session.checkpoint` after the last save, when the pod was asked to leave.

    As a SystemExit it passes an `except Exception`, and ends the process with 143, as SIGTERM does.
    """

    def __init__(self) -> None:
        super().__init__(EXIT_TERMINATED)

    def __reduce__(self) -> tuple[object, ...]:
        # Ray takes what a worker raises to its driver.
        return Stopped, ()


class Session(Rows):
    """One process of the gang, from its first step to its last. Get it from `modelwright.train.session`."""

    def __init__(
        self,
        run: Run,
        world: World,
        store: ObjectStore,
        reporter: Reporter,
        stop: Stop,
        now: Callable[[], float] = time.monotonic,
        watchdog: Watchdog | None = None,
        phases: Phases | None = None,
    ) -> None:
        super().__init__(run, world, store)
        self._reporter = reporter
        self._stop = stop
        self._now = now
        self._store = store
        self._watchdog = watchdog or Watchdog()
        self._phases = phases or Phases(now)
        self._checkpoints = CheckpointStore(store, run, _FINGERPRINT)
        self._saver = Saver(self._checkpoints, world, world.agree(uuid.uuid4().hex))
        # Where a hang is told as one, no wait for other processes may end before.
        self._control = Control(world, COLLECTIVE_TIMEOUT if run.training.hang.enabled else None)
        self._resumed: int | None = None
        self._done = 0
        self._just_saved = False
        self._listens = False
        self._captured: Capture | None = None
        self._schedule = Schedule(run.training.checkpoint, 0, now)
        self._pace = Pace(0, now)
        self._said: dict[str, Any] = {}
        self._total: int | None = None
        self._reported = -math.inf

    @property
    def rank(self) -> int:
        """The number of this process among all of the gang, from 0."""
        return self._world.rank

    @property
    def size(self) -> int:
        """How many processes train together."""
        return self._world.size

    @property
    def device(self) -> str:
        """`cuda:0`, or `cpu`: where this process's tensors belong."""
        return self._world.device

    @property
    def attempt(self) -> int:
        """Which life of the gang this is, from 1."""
        return self._run.attempt

    def resume(self, **state: Any) -> int:
        """Bring objects to the newest complete checkpoint and return the step to go on with; 0 where there is none.

        `state` is by name what `checkpoint` will be given: modules, optimizers, schedulers, whatever has `state_dict`
        and `load_state_dict`. Every process calls it, once they are all made and wrapped, before the first step. The
        number of processes may differ from the one that saved. With `spec.resume` a job without a checkpoint of its
        own starts with the weights that it names.
        Raises `RunError` CheckpointMismatch, `DataError` WarmStartImpossible, `StoreError`.
        """
        from modelwright.train import _resume  # imports torch, which a program that only reports need not have

        self._resumed = _resume.newest(self._checkpoints, self._world, state)
        if self._resumed is None:
            _resume.warm(self._store, self._run, state)
        self._done = self._resumed or 0
        self._schedule.saved(self._done)
        self._pace = Pace(self._done, self._now)
        return self._done

    def report(self, step: int, *, loss: Any = None, total_steps: int | None = None, **metrics: Any) -> None:
        """Tell how step `step` (counted from 0) went; `kubectl get tj` shows it.

        Numbers, or tensors of one. They are looked at once a second at most, so that a GPU is not waited for at each
        step. Rank 0's count; the others may call it or not. What is not told again stands as it was told last, such as
        an accuracy that is measured once an epoch.
        """
        self._beat(step + 1)
        self._total = total_steps or self._total
        self._said |= {
            name: value.detach() if hasattr(value, "detach") else value
            for name, value in {"loss": loss, **metrics}.items()
            if value is not None
        }
        self._tell()

    def checkpoint(self, step: int, *, force: bool = False, **state: Any) -> bool:
        """Save after step `step` (counted from 0) if a checkpoint is due, and return whether it did.

        Every process calls it after each step, at the same steps. It waits for a copy to host memory; the rest is done
        while training goes on. `force` saves in any case. When the pod was asked to leave, it saves, waits until
        that is done, and raises `Stopped`.
        """
        self._beat(step + 1)
        self._tell()
        self._listen()
        flags = (self._stop.requested, self.rank == 0 and self._schedule.due_by_time(), self._saver.busy)
        stop, due, busy = (value > 0 for value in self._control.exchange([float(flag) for flag in flags]))
        if stop:
            self._leave(state)
        # What was posted before the last save says nothing about the next one.
        outdated, self._just_saved = self._just_saved and self.size > 1, False
        wanted = due or self._schedule.due_by_steps(self._done)
        if not force and (outdated or busy or not wanted):
            return False
        if outdated or busy:
            with self._phases.standing_still():
                self.wait()
        self._save(state)
        return True

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Return a context for what takes long and is no step, such as a pass over other rows: it is no hang.

        Every process enters it, for those that wait for one that is busy make no step either.
        """
        with self._watchdog.quiet():
            # Now: for as long as it takes nobody hears of a step, and shall not take that for a gang that is lost.
            if self._world.leads and self._done:
                self._send()
            yield

    def wait(self) -> None:
        """Wait until the last checkpoint is written, which is no hang. Every process calls it."""
        with self.quiet():
            self._saver.wait()
            # Who has written its part would go on, and make no step for want of those that still write.
            self._control.meet()

    def close(self) -> None:
        """End well: wait for the save that is under way, and report the last step."""
        self._control.drain()
        # Not before: a peer that has not come so far may hang in its last step.
        self._watchdog.close()
        self._saver.wait()
        if self._world.leads and self._done:
            self._send()

    def fail(self, error: Exception) -> None:
        """End badly: leave the cause where the operator finds it, with the step at which it happened."""
        at_step(error, self._done)
        message = Path(TERMINATION_MESSAGE_FILE)
        if message.exists():  # only in a pod
            leave_behind(explain(error), message)

    def abandon(self) -> None:
        """Let a save that waits for other processes end: however the loop was left, this one shall not stay for it."""
        self._saver.abandon()

    def _beat(self, done: int) -> None:
        if done != self._done:  # whoever reports and saves says it twice
            self._watchdog.beat(done)
            # After the first step, which makes whatever is made at first use.
            self._phases.enter(Phase.TRAINING)
        self._done = done

    def _tell(self) -> None:
        if self._world.leads and self._now() - self._reported >= _REPORT_SECONDS:
            self._send()

    def _listen(self) -> None:
        # Not before: until now, SIGTERM ends the process at once, and nothing is lost by that.
        if not self._listens:
            self._stop.listen()
        self._listens = True

    def _save(self, state: dict[str, Any]) -> None:
        from modelwright.train import _shards

        with self._phases.standing_still():
            self._saver.wait()  # only the last one, of a pod that has to leave, finds another one under way
            part = self._captured = _shards.capture(state, self._world, self._captured)
        self._schedule.saved(self._done)
        self._just_saved = True
        self._saver.save(self._done, part, self._numbers() if self._world.leads else {})

    def _leave(self, state: dict[str, Any]) -> None:
        self._watchdog.close()
        self._control.drain()

        def save() -> bool:
            self._save(state)
            return not self._world.leads or self._saver.finish(self._done)

        with self._phases.standing_still():
            error = leave(self._done, self._world, save)
            self._saver.wait()
        message = Path(TERMINATION_MESSAGE_FILE)
        if message.exists():
            leave_behind(explain(error), message)
        if self._world.leads:
            self._send()
        raise Stopped from error

    def _numbers(self) -> dict[str, float]:
        numbers = {name: float(value) for name, value in self._said.items()}
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    def _send(self) -> None:
        self._reported = self._now()
        numbers = self._numbers()
        loss = numbers.pop("loss", None)
        metrics = [ReportedMetric(name=_shortened(name), value=value) for name, value in numbers.items()]
        progress = Progress(
            step=self._done,
            total_steps=_countable(self._total),
            loss=loss,
            metrics=tuple(metrics[:_MOST_METRICS]) or None,
            seconds_per_step=self._pace.seconds_per_step(self._done),
            eta_seconds=_countable(None if self._total is None else self._pace.eta(self._done, self._total)),
        )
        self._reporter.send(
            TrainingReport(
                attempt=self._run.attempt,
                progress=progress,
                checkpoint=self._saver.last,
                resumed_from_step=self._resumed,
                spent=self._phases.spent(),
                longest_step=self._watchdog.longest_step,
                quiet=self._watchdog.is_quiet,
            )
        )
