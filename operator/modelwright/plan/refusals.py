"""Pods that a Job may not make: the API server says that to the Job controller, in an event, and not to us."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from modelwright.plan import raystatus
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
_WHO = re.compile(r'^Error creating: (?:pods "[^"]*" is forbidden: )?')
"""What is another one with each try, or said anyway."""


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
    """Return why the newest attempt has fewer than `count` pods. What KubeRay may not make, its own objects tell."""
    job = view.job
    started = job and started_at(job)
    lacking = count - len(view.attempt_pods)
    if job is None or raystatus.is_ray_job(job) or view.state is not JobState.LIVE or not started or lacking <= 0:
        return Missing()
    left = PATIENCE - seconds_between(started, now)
    if left > 0:
        return Missing(wake_after=left)
    meta = job["metadata"]
    question = FailedCreates(meta["namespace"], meta["uid"])
    answer = observed.answers.get(question, question)
    if isinstance(answer, FailedCreates):
        return Missing(question=question)
    there = f"{lacking} of {count} pods are missing"
    if not isinstance(answer, tuple):
        # No more than that is known: an operator that may not read events, for one.
        said = f"{there}: kubectl describe job {meta['name']} tells why"
        return Missing(Verdict(State.RECONCILING, Reason.STARTING, said), wake_after=AGAIN)
    words = newest((event for event in answer if isinstance(event, dict)), now)
    if words is None:
        return Missing(wake_after=AGAIN)
    message = f"{there}, for the cluster refuses them: {words}"
    return Missing(Verdict(State.STALLED, Reason.PODS_REJECTED, message), wake_after=AGAIN)


def newest(events: Iterable[Object], now: datetime) -> str | None:
    """Return what the newest of some events of a Job says of the refusal; None where all are old."""
    told = [(at, str(event.get("message") or "")) for event in events if (at := _at(event)) is not None]
    recent = [(at, message) for at, message in told if message and seconds_between(at, now) <= _RECENT]
    if not recent:
        return None
    _, message = max(recent)
    return _WHO.sub("", message)[:_LONGEST]


def _at(event: Object) -> str | None:
    times = (event.get("lastTimestamp"), event.get("firstTimestamp"), event["metadata"].get("creationTimestamp"))
    return next((time for time in times if is_stamp(time)), None)
