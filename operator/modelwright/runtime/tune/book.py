"""The record of a search: which trials ended and how, which run, and which is the best."""

import math
from collections.abc import Iterable

from modelwright.api.run import SweepReport, SweepResult
from modelwright.api.schema import LOWER_IS_BETTER
from modelwright.api.tuningsweep import Goal, Objective, Trial, TrialState

_HISTORY = 10
_LONGEST_MESSAGE = 500


class Book:
    """The trials of a sweep, those of earlier attempts included. One thread writes in it."""

    def __init__(self, objective: Objective, attempt: int, ended: Iterable[Trial] = ()) -> None:
        self._lower = direction(objective) == "minimize"
        self._attempt = attempt
        self._ended = [trial for trial in ended if trial.state is not TrialState.RUNNING]
        self._running: dict[int, Trial] = {}

    @property
    def ended(self) -> tuple[Trial, ...]:
        """Trials that count against the budget, in the order in which they ended."""
        return tuple(self._ended)

    @property
    def best(self) -> Trial | None:
        """The trial with the best objective; the first of equals. One without a finite number is never it."""
        scored = [trial for trial in self._ended if trial.value is not None and trial.state is not TrialState.FAILED]
        return min(scored, key=self._rank, default=None)

    def next_number(self) -> int:
        """Return the number of a trial that is new."""
        return max((trial.number for trial in (*self._ended, *self._running.values())), default=0) + 1

    def begin(self, trial: Trial) -> None:
        """Write down a trial that starts, or starts again."""
        self._running[trial.number] = trial

    def succeed(self, number: int, value: object, *, stopped: bool) -> None:
        """Write down that a trial ended, early or not. Without a finite number it has failed."""
        if not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(number, f"the objective is {value}, which is no number to compare by")
            return
        state = TrialState.STOPPED if stopped else TrialState.SUCCEEDED
        self._close(number, state=state, value=float(value))

    def fail(self, number: int, message: str) -> None:
        """Write down that a trial broke."""
        self._close(number, state=TrialState.FAILED, message=message[:_LONGEST_MESSAGE])

    def report(self) -> SweepReport:
        """Return what the operator is told."""
        counts = self.result(finished=False).counts().model_copy(update={"running": len(self._running)})
        history = tuple(self._ended[-_HISTORY:])
        return SweepReport(attempt=self._attempt, trials=counts, best_trial=self.best, history=history)

    def result(self, *, finished: bool) -> SweepResult:
        """Return what is kept on S3."""
        return SweepResult(attempt=self._attempt, finished=finished, trials=self.ended, best_trial=self.best)

    def _close(self, number: int, **update: object) -> None:
        trial = self._running.pop(number, None)
        if trial is not None:
            self._ended.append(trial.model_copy(update=update))

    def _rank(self, trial: Trial) -> tuple[float, int]:
        value = trial.value if trial.value is not None else math.inf
        return (value if self._lower else -value, trial.number)


def direction(objective: Objective) -> str:
    """Return `minimize` or `maximize`: as the user said, or as the metric is meant."""
    goal = objective.goal or (Goal.MINIMIZE if objective.metric in LOWER_IS_BETTER else Goal.MAXIMIZE)
    return goal.value.lower()
