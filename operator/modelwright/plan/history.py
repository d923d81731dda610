"""What the status of a TrainingJob remembers: its attempts, and what rank 0 said of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from modelwright.api.failurepolicy import FailureClass, FailureRule
from modelwright.api.run import TrainingReport
from modelwright.api.trainingjob import Attempt, ReportedMetric, TrainingJobStatus
from modelwright.plan import budgets
from modelwright.plan.actions import Object
from modelwright.plan.attempts import JobState, View, ended_at, started_at, state_of
from modelwright.plan.failures import RESIZED, Cause, Loss, likelier
from modelwright.plan.lifecycle import loss_of
from modelwright.plan.observed import LOGS_ANNOTATION
from modelwright.plan.times import stamp

SHOWN = 10
_LONGEST = 1024


def brought_up(
    before: TrainingJobStatus, view: View, report: object, now: datetime, *, suspended: bool
) -> TrainingJobStatus:
    """Return the status with its attempts as observed and reported: what nobody recorded is told from the Jobs.

    What has ended stays as it was told, and a loss is charged to its budget once. `suspended`: the newest Job may be
    gone because the user wanted that.
    """
    known = {entry.number for entry in before.attempts}
    fresh = [
        Attempt(
            number=number,
            start_time=started,
            workers=job["spec"].get("completions"),
            logs=(job["metadata"].get("annotations") or {}).get(LOGS_ANNOTATION),
        )
        for number, job in view.jobs.items()
        if number not in known and (started := _begun(job)) is not None
    ]
    if view.number and view.number not in known and view.job is None and not suspended:
        # Its Job went before it began. Somebody who deletes every Job shall not keep the operator busy for ever.
        fresh.append(Attempt(number=view.number, start_time=stamp(now)))
    status = before.model_copy(update={"attempts": _newest((*before.attempts, *fresh))})
    # Before an end is told, so that it is told with the last step.
    status = with_report(status, report, view.number, now)
    for entry in status.attempts:
        status = _closed(status, entry, view, now, suspended=suspended)
    return status


def _begun(job: Object) -> str | None:
    """Return when a Job began; None: it has not. One that failed before it did was refused, which is an attempt too."""
    refused = state_of(job) is JobState.FAILED
    return started_at(job) or (str(job["metadata"]["creationTimestamp"]) if refused else None)


def begun(
    entries: Iterable[Attempt], number: int, at: str, logs: str | None, workers: int | None = None
) -> tuple[Attempt, ...]:
    """Return the attempts with one that begins now, with so many workers, and keeps its logs there."""
    fresh = Attempt(number=number, start_time=at, workers=workers, logs=logs)
    return _newest((*(entry for entry in entries if entry.number != number), fresh))


def with_report(status: TrainingJobStatus, report: object, number: int, now: datetime) -> TrainingJobStatus:
    """Return the status with what rank 0 said; reports of other attempts are not about this one."""
    if not isinstance(report, TrainingReport) or report.attempt != number:
        return status
    progress = report.progress
    if progress is not None and progress.loss is not None and not math.isfinite(progress.loss):
        # JSON knows no NaN, and the API server would refuse the whole status for it.
        progress = progress.model_copy(update={"loss": None})
    if progress is not None and progress.metrics is not None:
        # And it takes no name twice, whatever a program calls its numbers.
        once: dict[str, ReportedMetric] = {}
        for metric in progress.metrics:
            once.setdefault(metric.name, metric)
        progress = progress.model_copy(update={"metrics": tuple(once.values())})
    if progress is not None:
        before = status.progress
        same = before is not None and before.step == progress.step and has_stepped(status, number)
        heard = before.last_step_time if before is not None and same else stamp(now)
        progress = progress.model_copy(update={"last_step_time": heard})
    return status.model_copy(
        update={
            "attempts": tuple(_told(entry, report, _before(status.attempts, number)) for entry in status.attempts),
            "progress": progress or status.progress,
            "checkpoint": report.checkpoint or status.checkpoint,
        }
    )


def has_stepped(status: TrainingJobStatus, number: int) -> bool:
    """Tell whether an attempt has told of a step that it made."""
    return any(entry.number == number and entry.last_step is not None for entry in status.attempts)


def _before(entries: Iterable[Attempt], number: int) -> int | None:
    """Return the attempt whose work another one goes on with: one that only looked for room has done none."""
    worked = [entry.number for entry in entries if entry.reason != Cause.SHRUNK or entry.last_step is not None]
    return max((known for known in worked if known < number), default=None)


def _told(entry: Attempt, report: TrainingReport, before: int | None) -> Attempt:
    """Return an attempt with what a report says of it, or of what its successor has to do again."""
    if entry.number == report.attempt:
        # What ended the attempt may have named a later step than the last report does.
        least = 0 if entry.reason is None else entry.last_step or 0
        steps = {} if report.progress is None else {"last_step": max(least, report.progress.step)}
        resumed = {} if report.resumed_from_step is None else {"resumed_from_step": report.resumed_from_step}
        again = {} if not report.restarts else {"process_restarts": max(report.restarts, entry.process_restarts or 0)}
        if report.restarts and entry.last_step is not None:
            # Where its processes started again is not where it began.
            resumed = {}
        return entry.model_copy(update={**steps, **resumed, **again})
    if entry.number == before and entry.last_step is not None and report.progress is not None:
        if report.restarts and entry.lost_steps is not None:
            return entry
        return entry.model_copy(update={"lost_steps": max(0, entry.last_step - (report.resumed_from_step or 0))})
    return entry


def reason(status: TrainingJobStatus) -> str | None:
    """Return the reason of Ready."""
    return next((entry.reason for entry in status.conditions if entry.type == "Ready"), None)


def noted(status: TrainingJobStatus, number: int, loss: Loss, rules: Sequence[FailureRule]) -> TrainingJobStatus:
    """Return the status with why an attempt is about to end: what shows it may be gone by then.

    Nothing is charged before the end. Until then, a likelier root takes the place of what was seen first.
    """
    entry = next((entry for entry in status.attempts if entry.number == number), None)
    if entry is None or entry.end_time is not None:
        return status
    before = loss_told(status.attempts, number)
    if before is not None:
        loss = likelier(before, loss)
    return status.model_copy(
        update={
            "attempts": _with(status.attempts, entry.model_copy(update=_words(entry, loss))),
            "excluded_nodes": ()
            if loss.reason == Cause.NODES_EXCLUDED
            else budgets.excluded(status.excluded_nodes, [loss], rules),
        }
    )


def over(status: TrainingJobStatus, number: int, why: Cause, at: str, message: str | None = None) -> TrainingJobStatus:
    """Return the status with the end of an attempt that ends with its job, where its own Job has not told one.

    What was told of it before stays, but that its time was up, where its work was found done. No budget pays: there is
    no next attempt.
    """
    entry = next((entry for entry in status.attempts if entry.number == number), None)
    if entry is None:
        return status
    in_time = entry.reason == Cause.DEADLINE_EXCEEDED and why is Cause.COMPLETED
    if entry.end_time is not None and not in_time:
        return status
    words = {"reason": str(why), "message": message} if entry.reason is None or in_time else {}
    ended = entry.model_copy(update={**words, "end_time": entry.end_time or at})
    return status.model_copy(update={"attempts": _with(status.attempts, ended)})


def loss_told(entries: Iterable[Attempt], number: int) -> Loss | None:
    """Return why an attempt was lost, if that has been told."""
    for entry in entries:
        if entry.number == number and entry.reason is not None and entry.reason != Cause.COMPLETED:
            kind = entry.failure_class or FailureClass.INFRASTRUCTURE
            return Loss(entry.reason, entry.message or "", kind, retryable=not entry.final, node=entry.node)
    return None


def end_told(entries: Iterable[Attempt], number: int) -> str | None:
    """Return when an attempt ended, if that has been told."""
    return next((entry.end_time for entry in entries if entry.number == number), None)


def _closed(
    status: TrainingJobStatus, entry: Attempt, view: View, now: datetime, *, suspended: bool
) -> TrainingJobStatus:
    job = view.jobs.get(entry.number)
    state = state_of(job)
    # A suspension may take the Job away, but not the loss that came before it.
    gone = state is JobState.ABSENT and (not suspended or entry.reason is not None)
    if entry.end_time is not None or not (gone or state in (JobState.COMPLETE, JobState.FAILED)):
        return status
    if state is JobState.COMPLETE:
        completed = {"failure_class": None, "message": None, "final": None, "node": None}
        ended = {**completed, "end_time": ended_at(job, now), "reason": str(Cause.COMPLETED)}
        return status.model_copy(update={"attempts": _with(status.attempts, entry.model_copy(update=ended))})
    status = noted(status, entry.number, loss_of(replace(view, number=entry.number)), view.rules)
    (entry,) = (other for other in status.attempts if other.number == entry.number)
    over = entry.model_copy(update={"end_time": ended_at(job, now)})
    charged = () if entry.reason in RESIZED else (entry.failure_class or FailureClass.INFRASTRUCTURE,)
    return status.model_copy(
        update={"attempts": _with(status.attempts, over), "failures": budgets.counted(status.failures, charged)}
    )


def _words(entry: Attempt, loss: Loss) -> dict[str, Any]:
    return {
        "reason": str(loss.reason),
        "message": loss.message[:_LONGEST],
        "failure_class": None if loss.reason in RESIZED else loss.failure_class,
        "final": None if loss.retryable else True,
        "node": loss.node,
        "last_step": entry.last_step if loss.step is None else loss.step,
    }


def _with(entries: Iterable[Attempt], changed: Attempt) -> tuple[Attempt, ...]:
    return tuple(changed if entry.number == changed.number else entry for entry in entries)


def _newest(entries: Iterable[Attempt]) -> tuple[Attempt, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.number))[-SHOWN:]
