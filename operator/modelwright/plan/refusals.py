"""Pods that may not be made: the API server says that to the Job controller or to KubeRay, and not to us.

The one tells it in an event, the other in the status of the RayJob.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from modelwright.plan import podstatus, raystatus
from modelwright.plan.actions import Object
from modelwright.plan.attempts import JobState, View, started_at
from modelwright.plan.conditions import Reason, State, Verdict
from modelwright.plan.observed import Observed
from modelwright.plan.questions import FailedCreates
from modelwright.plan.times import is_stamp, seconds_between

PATIENCE = 30.0
"""Seconds after its Job has started for which nothing is said of pods that are not there."""
AGAIN = 60.0
"""Seconds until another look: events are not watched."""
_RECENT = 900.0
"""Seconds for which a refusal counts. A Job tries every minute; who tells of it may leave out all but one in five."""
_LONGEST = 1024
_WHO = re.compile(
    r"^(?:(?:\(combined from similar events\): )?Error creating: |FailedCreate(?:Head|Worker)Pod\s+)"
    r'(?:pods "[^"]*" is forbidden: |Pod "[^"]*" is invalid: )?'
)
"""What is said anyway."""
_STEM = 47
"""So much of the name of a Job or RayJob is in those of its pods, which are shortened to make room for five letters."""


@dataclass(frozen=True)
class Missing:
    """How the pods stand that a Job was to make."""

    verdict: Verdict | None = None
    """What keeps them away; None: all are there, or may soon be, or nobody has said anything."""
    question: FailedCreates | None = None
    """What must be asked first."""
    wake_after: float | None = None
    """Seconds until more can be told."""


def missing(observed: Observed, view: View, count: int, now: datetime) -> Missing:
    """Return why the newest attempt has fewer than `count` pods."""
    job = view.job
    started = job and started_at(job)
    lacking = 0 if job is None else _lacking(job, view.attempt_pods, count)
    if job is None or view.state is not JobState.LIVE or not started or lacking <= 0:
        return Missing()
    left = PATIENCE - seconds_between(started, now)
    if left > 0:
        return Missing(wake_after=left)
    meta, there = job["metadata"], f"{lacking} of {count} pods are missing"
    if raystatus.is_ray_job(job):
        told = podstatus.condition({"status": job["rayJob"].get("rayClusterStatus")}, "ReplicaFailure").get("message")
        return Missing(_refused(there, _words(str(told), meta["name"])) if told else None)
    question = FailedCreates(meta["namespace"], meta["uid"])
    answer = observed.answers.get(question, question)
    if isinstance(answer, FailedCreates):
        return Missing(question=question)
    if not isinstance(answer, tuple):
        # No more than that is known: an operator that may not read events, for one.
        said = f"{there}: kubectl describe job {meta['name']} tells why"
        return Missing(Verdict(State.RECONCILING, Reason.STARTING, said), wake_after=AGAIN)
    words = newest((event for event in answer if isinstance(event, dict)), meta["name"], now)
    if words is None:
        return Missing(wake_after=AGAIN)
    return Missing(_refused(there, words), wake_after=AGAIN)


def completed(job: Object) -> set[int]:
    """Return the indexes of which a pod has ended well. The API server lists them as `0,2-4`."""
    listed = str((job.get("status") or {}).get("completedIndexes") or "")
    ranges = [part.partition("-") for part in listed.split(",") if part]
    return {index for first, _, last in ranges for index in range(int(first), int(last or first) + 1)}


def _lacking(job: Object, pods: Collection[Object], count: int) -> int:
    """Return how many pods are missing. Those of workers that are done may be gone, with their nodes."""
    there = {podstatus.index(pod) for pod in pods}
    return count - len(pods) - sum(str(index) not in there for index in completed(job))


def newest(events: Iterable[Object], job: str, now: datetime) -> str | None:
    """Return what the newest of some events of a Job, by its name, says of the refusal; None where all are old."""
    told = [(at, str(event.get("message") or "")) for event in events if (at := _at(event)) is not None]
    recent = [(at, message) for at, message in told if message and seconds_between(at, now) <= _RECENT]
    if not recent:
        return None
    _, message = max(recent)
    return _words(message, job)


def _refused(there: str, words: str) -> Verdict:
    return Verdict(State.STALLED, Reason.PODS_REJECTED, f"{there}, for the cluster refuses them: {words}")


def _words(message: str, job: str) -> str:
    """Return what a message says whichever pod it is about: each try is for one with another name."""
    return re.sub(rf"{re.escape(job[:_STEM])}[a-z0-9-]*-[a-z0-9]{{5}}\b", f"{job}-*", _WHO.sub("", message))[:_LONGEST]


def _at(event: Object) -> str | None:
    times = (event.get("lastTimestamp"), event.get("firstTimestamp"), event["metadata"].get("creationTimestamp"))
    return next((time for time in times if is_stamp(time)), None)
