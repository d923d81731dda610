"""What the status of a TrainingJob remembers: its attempts, and what rank 0 said of them."""

import math
from collections.abc import Iterable
from datetime import datetime

from modelwright.api.run import TrainingReport
from modelwright.api.trainingjob import Attempt, TrainingJobStatus
from modelwright.plan.attempts import JobState, View, ended_at, started_at, state_of
from modelwright.plan.conditions import is_suspended
from modelwright.plan.failures import Cause, Loss
from modelwright.plan.lifecycle import loss_of

SHOWN = 10
_LONGEST = 1024


def attempts(before: TrainingJobStatus, view: View, now: datetime) -> tuple[Attempt, ...]:
    """Return the newest attempts, oldest first; what nobody recorded is told from the Jobs, what was told stays."""
    known = {entry.number: entry for entry in before.attempts}
    suspended = is_suspended(before.conditions)
    for number, job in view.jobs.items():
        started = started_at(job)
        if number not in known and started is not None:
            known[number] = Attempt(number=number, start_time=started)
    return _newest(_closed(entry, view, now, suspended=suspended) for entry in known.values())


def begun(entries: Iterable[Attempt], number: int, at: str) -> tuple[Attempt, ...]:
    """Return the attempts with one that begins now."""
    return _newest((*(entry for entry in entries if entry.number != number), Attempt(number=number, start_time=at)))


def with_report(status: TrainingJobStatus, report: object, number: int) -> TrainingJobStatus:
    """Return the status with what rank 0 said; reports of other attempts are not about this one."""
    if not isinstance(report, TrainingReport) or report.attempt != number:
        return status
    progress = report.progress
    if progress is not None and progress.loss is not None and not math.isfinite(progress.loss):
        # JSON knows no NaN, and the API server would refuse the whole status for it.
        progress = progress.model_copy(update={"loss": None})
    resumed = {} if report.resumed_from_step is None else {"resumed_from_step": report.resumed_from_step}
    return status.model_copy(
        update={
            "attempts": tuple(
                entry.model_copy(update=resumed) if entry.number == number else entry for entry in status.attempts
            ),
            "progress": progress or status.progress,
            "checkpoint": report.checkpoint or status.checkpoint,
        }
    )


def reason(status: TrainingJobStatus) -> str | None:
    """Return the reason of Ready."""
    return next((entry.reason for entry in status.conditions if entry.type == "Ready"), None)


def lost(entries: Iterable[Attempt], number: int, loss: Loss, at: str) -> tuple[Attempt, ...]:
    """Return the attempts with one that is over, for a reason that may not be seen again."""
    told = {"reason": str(loss.reason), "message": loss.message[:_LONGEST]}
    return tuple(
        entry.model_copy(update={**told, "end_time": entry.end_time or at}) if entry.number == number else entry
        for entry in entries
    )


def loss_told(entries: Iterable[Attempt], number: int) -> Loss | None:
    """Return why an attempt was lost, if that has been told."""
    for entry in entries:
        if entry.number == number and entry.reason is not None and entry.reason != Cause.COMPLETED:
            return Loss(entry.reason, entry.message or "")
    return None


def _closed(entry: Attempt, view: View, now: datetime, *, suspended: bool) -> Attempt:
    job = view.jobs.get(entry.number)
    state = state_of(job)
    gone = state is JobState.ABSENT and not suspended
    if entry.end_time is not None or not (gone or state in (JobState.COMPLETE, JobState.FAILED)):
        return entry
    if state is JobState.COMPLETE:
        return entry.model_copy(update={"end_time": ended_at(job, now), "reason": str(Cause.COMPLETED)})
    return lost((entry,), entry.number, loss_of(View(entry.number, view.jobs, view.pods)), ended_at(job, now))[0]


def _newest(entries: Iterable[Attempt]) -> tuple[Attempt, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.number))[-SHOWN:]
