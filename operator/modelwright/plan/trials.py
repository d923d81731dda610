"""What the status of a TuningSweep says of its trials; a number that is none never gets in."""

import math

from modelwright.api.run import SweepReport, SweepResult
from modelwright.api.tuningsweep import Trial, TuningSweepStatus

SHOWN = 10


def with_report(status: TuningSweepStatus, report: object, attempt: int) -> TuningSweepStatus:
    """Return the status with what the driver said; reports of other attempts are not about this one."""
    if not isinstance(report, SweepReport) or report.attempt != attempt:
        return status
    best = _presentable(report.best_trial)
    update = {"trials": report.trials, "best_trial": best, "history": tuple(map(_finite, report.history))}
    return status.model_copy(update=update)


def from_result(status: TuningSweepStatus, result: SweepResult, uri: str) -> TuningSweepStatus:
    """Return the status with the trials that have ended, as they lie on S3."""
    if not result.trials:
        return status
    return status.model_copy(
        update={
            "trials": result.counts(),
            "best_trial": _presentable(result.best_trial),
            "history": tuple(map(_finite, result.trials[-SHOWN:])),
            "results_uri": uri,
        }
    )


def none_running(status: TuningSweepStatus) -> TuningSweepStatus:
    """Return the status of a sweep whose pods are gone."""
    if status.trials is None:
        return status
    return status.model_copy(update={"trials": status.trials.model_copy(update={"running": 0})})


def last_failure(status: TuningSweepStatus) -> str:
    """Return why the newest trial failed, for the user to start with."""
    said = [trial.message for trial in status.history if trial.message]
    return said[-1] if said else "no trial ended"


def _presentable(trial: Trial | None) -> Trial | None:
    """Return the best trial if it has a number to show for it: NaN is never the best."""
    if trial is None or trial.value is None or not math.isfinite(trial.value):
        return None
    return trial


def _finite(trial: Trial) -> Trial:
    # JSON knows no NaN, and the API server would refuse the whole status for it.
    if trial.value is None or math.isfinite(trial.value):
        return trial
    return trial.model_copy(update={"value": None})
