"""Gangs that go on with fewer workers when there is no room for all of them, and grow back when there is.

Nothing is computed about nodes: the scheduler is asked. An attempt that waits too long for some of its pods tells how
many there is room for; and for the others, later, a placeholder waits in their place. The decision is written into the
status before anything is done for it, so whoever comes next carries it out.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from modelwright.api.elastic import Elastic
from modelwright.api.trainingjob import Attempt, TrainingJobStatus
from modelwright.plan import podstatus
from modelwright.plan.actions import Delete, Object
from modelwright.plan.attempts import JobState, View, condition_time, finished, is_placeholder, ref, started_at
from modelwright.plan.conditions import State, Verdict
from modelwright.plan.failures import RESIZED, Cause, Loss
from modelwright.plan.lifecycle import Hold, Running
from modelwright.plan.observed import PLACEHOLDER_LABEL, Observed
from modelwright.plan.times import parse, seconds_between, sooner, stamp

_SOON = 5.0
"""Seconds."""
_LONGEST_PAUSE = 6 * 3600
"""Seconds until room is looked for again where that did not last, unless the user wants more from the start."""


@dataclass(frozen=True)
class Room:
    """What looks for room for more workers."""

    jobs: tuple[Object, ...]
    pods: tuple[Object, ...]

    def of(self, attempt: int) -> Object | None:
        """Return the placeholder of an attempt."""
        return next((job for job in self.jobs if _attempt_of(job) == attempt), None)

    def running(self, attempt: int) -> list[Object]:
        """Return the pods of that placeholder that run, and so have a node and an image."""
        mine = [pod for pod in self.pods if _attempt_of(pod) == attempt]
        return [
            pod
            for pod in mine
            if podstatus.status(pod).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
        ]

    def dismissed(self, *, keep: int | None = None) -> tuple[Delete, ...]:
        """Return the deletes of all placeholders, but for that of one attempt."""
        unwanted = [job for job in self.jobs if _attempt_of(job) != keep]
        return tuple(
            Delete(ref(job, "batch/v1", "Job")) for job in unwanted if not job["metadata"].get("deletionTimestamp")
        )


@dataclass(frozen=True)
class Look:
    """One look at an elastic gang that nothing is wrong with."""

    view: View
    elastic: Elastic
    replicas: int
    """How many workers are wished for."""
    room: Room
    may_grow: bool
    """It has made a step, and what it learns is kept: one that was ended while it starts would never come to train."""
    pause: int
    """Seconds that an attempt runs before room for more is looked for."""
    eta_seconds: float | None
    """How long it has to train yet, where that is known."""
    now: datetime


@dataclass(frozen=True)
class Adjustment:
    """What comes of a look."""

    step: Running | Hold
    wanted: int = 0
    """A placeholder of so many pods is wanted. One that is there stays, whatever has become of it."""


def room_of(observed: Observed) -> Room:
    """Return what looks for room for an object."""
    return Room(
        tuple(job for job in observed.child("Job") if is_placeholder(job)),
        tuple(pod for pod in observed.child("Pod") if is_placeholder(pod)),
    )


def size_of(status: TrainingJobStatus, number: int, replicas: int) -> int:
    """Return how many workers an attempt that begins gets.

    As many as there was room for, where the one before was ended for that. After any other end all are asked for: the
    room for them may be there again, and costs no restart then. One that begins again after a pause has what it had.
    """
    again = next((entry.workers for entry in status.attempts if entry.number == number), None)
    resized = status.workers if is_resized(status, number - 1) else None
    return min(again or resized or replicas, replicas)


def is_resized(status: TrainingJobStatus, number: int) -> bool:
    """Tell whether an attempt is ended, or about to be, so that the next one has another number of workers."""
    return any(entry.number == number and entry.reason in RESIZED for entry in status.attempts)


def is_growing(status: TrainingJobStatus, number: int) -> bool:
    """Tell whether an attempt is being ended for a larger one, for which a placeholder keeps the room."""
    return any(entry.number == number and entry.reason == Cause.GROWN for entry in status.attempts)


def pause_of(status: TrainingJobStatus, elastic: Elastic) -> int:
    """Return for how long an attempt runs before room for more is looked for.

    Twice as long for each time that the gang has grown and did not train for a while with what it got: the room may not
    do for workers, or others may always be faster, and nobody pays for another try.
    """
    pause, tries = elastic.grow_after_seconds, 0
    trained = [entry for entry in status.attempts if entry.last_step is not None]
    for before, after in reversed([*pairwise(trained)]):
        if (after.workers or 0) > (before.workers or 0) and _lasted(after, pause):
            break
        tries += before.reason == Cause.GROWN
    return min(pause << tries, max(pause, _LONGEST_PAUSE))


def _lasted(entry: Attempt, seconds: float) -> bool:
    """Tell whether an attempt went on for so long, or still does."""
    return entry.end_time is None or seconds_between(entry.start_time, parse(entry.end_time)) >= seconds


def adjusted(step: Running, look: Look) -> Adjustment:
    """Return what happens to a gang that could go on as it is: it shrinks, grows, looks for room, or goes on."""
    view = look.view
    if view.state is not JobState.LIVE or any(not podstatus.alive(pod) for pod in view.attempt_pods):
        return Adjustment(step)
    size, placed = view.workers(look.replicas), _placed(view.attempt_pods)
    if placed < size:
        return Adjustment(_unless_short_of_room(step, look, size, placed))
    if size < look.replicas and look.may_grow:
        return _growing(step, look, size)
    return Adjustment(step)


def _unless_short_of_room(step: Running, look: Look, size: int, placed: int) -> Running | Hold:
    """Wait for room for all workers, for a while; then go on with those that have some, if they are enough."""
    job = look.view.job
    started = job and started_at(job)
    if job is None or not started or condition_time(job, "Suspended"):
        # Up to Kubernetes 1.35 a Job that goes on has its old start until all of its pods are made.
        return step
    if any(pod["metadata"].get("deletionTimestamp") for pod in look.view.attempt_pods):
        # It is about to fail; the watch of Jobs may tell that later.
        return step
    left = look.elastic.wait_seconds - seconds_between(started, look.now)
    if left > 0:
        return replace(step, wake_after=sooner(step.wake_after, left))
    if placed < look.elastic.min:
        return step
    found = f"only {placed} of {size} workers found a node within {look.elastic.wait_seconds} s"
    return _resized(step, look, Cause.SHRUNK, f"{found}: attempt {look.view.number + 1} goes on with {placed}", placed)


def _growing(step: Running, look: Look, size: int) -> Adjustment:
    """Look for room for the missing workers, and take what there is of it."""
    number, missing = look.view.number, look.replicas - size
    job, started = look.room.of(number), look.view.job and started_at(look.view.job)
    pause = look.elastic.grow_after_seconds
    # What is told of the end goes up and down: who looks already looks on for a while.
    worth = pause if job is None else pause / 2
    if not started or (look.eta_seconds is not None and look.eta_seconds < worth):
        return Adjustment(step)
    left = look.pause - seconds_between(started, look.now)
    if job is None and left > 0:
        return Adjustment(replace(step, wake_after=sooner(step.wake_after, left)))
    if job is None or finished(job) or job["metadata"].get("deletionTimestamp"):
        # One that has ended is kept by Kubernetes until it is time to look again.
        return Adjustment(step, missing)
    ready = look.room.running(number)
    patience = _patience(ready, look) if ready and len(ready) < missing else 0.0
    if not ready or patience > 0:
        wake = sooner(step.wake_after, patience) if ready else step.wake_after
        return Adjustment(replace(step, wake_after=wake), missing)
    workers = size + min(len(ready), missing)
    found = f"there is room for {workers} workers instead of {size}"
    message = f"{found}: attempt {number} saves and ends, and attempt {number + 1} goes on with them"
    return Adjustment(_resized(step, look, Cause.GROWN, message, workers), missing)


def _patience(ready: Iterable[Object], look: Look) -> float:
    """Return for how many seconds more those that have room wait for those that have not."""
    scheduled = (podstatus.condition(pod, "PodScheduled").get("lastTransitionTime") for pod in ready)
    since = min((str(time) for time in scheduled if time), default=stamp(look.now))
    return look.elastic.wait_seconds - seconds_between(since, look.now)


def _resized(step: Running, look: Look, cause: Cause, message: str, workers: int) -> Hold:
    # The Job is ended by whoever looks next, which is as soon as this is written.
    verdict = Verdict(State.RECONCILING, cause, message)
    return Hold(verdict, step.actions, _SOON, Loss(cause, message), workers)


def _placed(pods: Iterable[Object]) -> int:
    """Return how many workers have a node."""
    found = (pod for pod in pods if podstatus.condition(pod, "PodScheduled").get("status") == "True")
    return len({podstatus.index(pod) for pod in found})


def _attempt_of(child: Object) -> int:
    text = child["metadata"]["labels"][PLACEHOLDER_LABEL]
    return int(text) if text.isdecimal() else 0
