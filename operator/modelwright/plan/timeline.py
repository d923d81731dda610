"""When an attempt was asked for, had its nodes and ended, as Jobs and pods tell it to an operator that was away."""

from collections.abc import Iterable
from dataclasses import dataclass

from modelwright.api.goodput import Bucket
from modelwright.api.trainingjob import Attempt
from modelwright.plan import podstatus
from modelwright.plan.actions import Object
from modelwright.plan.attempts import JobState, View, condition_time, started_at, state_of
from modelwright.plan.failures import Cause
from modelwright.plan.times import parse

_ENDS = ("FailureTarget", "SuccessCriteriaMet", "Failed", "Complete")
"""Conditions of a Job whose pods need not go on; the first of them comes before the others have left."""


@dataclass(frozen=True, order=True)
class Turn:
    """From a moment on, time goes to another bucket."""

    at: int
    """Seconds since 1970."""
    attempt: int
    bucket: Bucket


def turns(view: View, attempts: Iterable[Attempt], replicas: int) -> list[Turn]:
    """Return what Jobs, pods and the recorded attempts tell of when things changed, in order of time.

    The newest attempt has so many pods.
    What happened to one attempt more than once, as by suspensions, is told from the last time only.
    """
    found = [turn for entry in attempts if (turn := _ended(view.jobs.get(entry.number), entry)) is not None]
    job = view.job
    if job is None or view.state is JobState.LEAVING:
        return sorted(found)
    if view.state is JobState.HELD:
        held = condition_time(job, "Suspended")
        return sorted([*found, *([Turn(_seconds(held), view.number, Bucket.QUEUED)] if held else [])])
    asked = started_at(job) or str(job["metadata"]["creationTimestamp"])
    found.append(Turn(_seconds(asked), view.number, Bucket.QUEUED))
    placed = placed_at(view.attempt_pods, replicas)
    if placed is not None:
        found.append(Turn(placed, view.number, Bucket.STARTING))
    return sorted(found)


def placed_at(pods: Iterable[Object], replicas: int) -> int | None:
    """Return when the last pod of a gang got its node, in seconds since 1970; None while one has none."""
    newest = {podstatus.index(pod): pod for pod in sorted(pods, key=_age)}
    times = [time for pod in newest.values() if (time := _placed(pod)) is not None]
    return max(times) if len(times) >= replicas else None


def present(pods: Iterable[Object]) -> list[Object]:
    """Return the pods that nobody has deleted."""
    return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]


def ran_at(pods: Iterable[Object]) -> int | None:
    """Return when the last container of the pods began, in seconds since 1970; None where none is known to have."""
    found: list[str] = []
    for pod in pods:
        for container in podstatus.containers(pod):
            state = container.get("state") or {}
            began = (state.get("running") or state.get("terminated") or {}).get("startedAt")
            found += [began] if began else []
    return max(map(_seconds, found), default=None)


def _ended(job: Object | None, entry: Attempt) -> Turn | None:
    times = [time for kind in _ENDS if job is not None and (time := condition_time(job, kind))]
    times += [entry.end_time] if entry.end_time else []
    if not times:
        return None
    completed = entry.reason == Cause.COMPLETED or (job is not None and state_of(job) is JobState.COMPLETE)
    return Turn(min(map(_seconds, times)), entry.number, Bucket.EVALUATING if completed else Bucket.RESTARTING)


def _placed(pod: Object) -> int | None:
    scheduled = podstatus.condition(pod, "PodScheduled")
    since = scheduled.get("lastTransitionTime")
    return _seconds(str(since)) if scheduled.get("status") == "True" and since else None


def _age(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp"))


def _seconds(stamp: str) -> int:
    return int(parse(stamp).timestamp())
