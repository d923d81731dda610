"""What Ray Tune tells of its trials, written into the book."""

import logging
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from modelwright.api.tuningsweep import EarlyStopping, Trial, TrialState
from modelwright.runtime.tune.book import Book
from modelwright.runtime.tune.keeper import Keeper
from modelwright.runtime.tune.searcher import EPOCH, FAILURE, FINISHED, OBJECTIVE, parameter_values

logger = logging.getLogger(__name__)

_MOST_EPOCHS = 100_001
"""More than a recipe can ask for: how long a trial trains is said by its recipe, not by the scheduler."""
_LOST = "its process died each time, for want of memory or with its node: see the logs of the sweep's pods"


class RememberingAsha(ASHAScheduler):  # type: ignore[misc]
    """Successive halving that remembers which trials it stopped: Ray tells of these as it does of interrupted ones."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.stopped: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        """Decide as ASHA does."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            self.stopped.add(trial.trial_id)
        return decision


def scheduler(early: EarlyStopping | None, mode: str) -> TrialScheduler:
    """Return what stops trials early; `mode` is `min` or `max`."""
    if early is None or early.asha is None:
        return FIFOScheduler()
    return RememberingAsha(
        time_attr=EPOCH,
        metric=OBJECTIVE,
        mode=mode,
        max_t=_MOST_EPOCHS,
        grace_period=early.asha.grace_period,
        reduction_factor=early.asha.reduction_factor,
    )


class Watch(Callback):  # type: ignore[misc]
    """Follows the trials in the driver."""

    def __init__(self, book: Book, keeper: Keeper, scheduler: TrialScheduler) -> None:
        self._book = book
        self._keeper = keeper
        self._scheduler = scheduler

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles all that it is given, for a restore that is never made; connections cannot be pickled.
        return {}

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """Note that a trial runs."""
        parameters = parameter_values(trial.config["parameters"])
        self._book.begin(Trial(number=trial.config["number"], state=TrialState.RUNNING, parameters=parameters))
        logger.info("trial %d: %s", trial.config["number"], trial.config["parameters"])
        self._keeper.tell()

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """Note how a trial ended. One that neither finished nor was stopped was interrupted: it counts for nothing."""
        number, result = trial.config["number"], trial.last_result
        stopped = trial.trial_id in getattr(self._scheduler, "stopped", ())
        if FAILURE in result:
            self._book.fail(number, str(result[FAILURE]))
        elif FINISHED in result or stopped:
            self._book.succeed(number, result.get(OBJECTIVE), stopped=FINISHED not in result)
        else:
            return
        self._tell_of_last()

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """Note that a trial lost its process too often."""
        self._book.fail(trial.config["number"], _LOST)
        self._tell_of_last()

    def _tell_of_last(self) -> None:
        last = self._book.ended[-1]
        logger.info("trial %d: %s, %s", last.number, last.state, last.message or f"{last.value:.6g}")
        self._keeper.keep()
