"""What the owners of gangs, TrainingJob and TuningSweep, do alike: where work is kept, when to start, how to end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from modelwright.api.common import Status, Storage
from modelwright.api.trainingjob import MANAGER, TrainingJobStatus, Workers
from modelwright.api.tuningsweep import SweepWorkers, TuningSweepStatus
from modelwright.plan import injected, rejections
from modelwright.plan.actions import Action, Apply, Ask, Delete, Object, Plan
from modelwright.plan.attempts import Clock, View, jobs_of, leftovers, outdated, ref
from modelwright.plan.conditions import Reason, State, Verdict, conditions, is_suspended
from modelwright.plan.departures import strays
from modelwright.plan.events import on_change
from modelwright.plan.gang import Gang, service
from modelwright.plan.gangstart import Together, together
from modelwright.plan.lifecycle import SUSPENDED
from modelwright.plan.observed import Observed
from modelwright.plan.podstatus import running
from modelwright.plan.questions import FailedCreates, Question, SecretExists, Store, Unavailable
from modelwright.plan.refusals import missing
from modelwright.plan.settings import Settings
from modelwright.plan.startup import trouble
from modelwright.plan.times import seconds_between, soonest, stamp

SOON, LATER, SELDOM = 15.0, 60.0, 300.0
"""Seconds until another look at what does not tell us of its changes: S3, a Secret, a refusal of the API server."""


@dataclass(frozen=True)
class Obstacle:
    """Why an attempt cannot start now."""

    verdict: Verdict | None
    """None: the object has gone on since it was observed, and nothing is to be said about the old view."""
    wake_after: float | None = None


def is_ours(target: Object) -> bool:
    """Tell whether this operator takes care of a job: before anything else, for others may mean other things by it."""
    return target["spec"].get("managedBy") in (None, MANAGER)


def store_of(observed: Observed, storage: Storage, settings: Settings) -> Store | None:
    """Return where the work of an object is kept; None where neither it nor the operator's defaults say."""
    resolved = settings.resolve(storage)
    if resolved is None:
        return None
    return Store(resolved, observed.object["metadata"]["namespace"], settings.secret_name(storage))


def obstacle(observed: Observed, store: Store | None, newest: int) -> Obstacle | Question | Unavailable | None:
    """Return what keeps the next attempt from starting, or what must be asked first; None: it may start.

    `newest` is the attempt before it; 0 for none.
    """
    if store is None:
        kind = observed.object["kind"]
        where = f"give storage.uri in a new {kind}, or in the operator's Helm values"
        return Obstacle(Verdict(State.RECONCILING, Reason.STORAGE_NOT_CONFIGURED, f"no storage: {where}"))
    if store.secret_name is not None:
        question = SecretExists(store.namespace, store.secret_name)
        answer = observed.answers.get(question, question)
        if isinstance(answer, SecretExists | Unavailable):
            return answer
        if not answer:
            return Obstacle(Verdict(State.RECONCILING, Reason.SECRET_NOT_FOUND, _how_to_make(store)), LATER)
    if newest == 0:
        return None
    old = outdated(observed, newest)
    if not isinstance(old, bool):
        return old
    return Obstacle(None, SOON) if old else None


def begun(made: Gang) -> Verdict:
    """Return what is said of an attempt that was just made."""
    if made.suspend:
        return SUSPENDED
    return made.queue.verdict if made.queue else _starting(made.run.attempt, made.workers.replicas)


def getting_ready(
    workers: Sequence[Object], number: int, replicas: int, together: Together | None = None
) -> Verdict | None:
    """Return what keeps the pods of an attempt from their work; None: they are at it."""
    found = trouble(workers, together.count if together else 1)
    if found is not None:
        return Verdict(State.RECONCILING, found.reason, found.message)
    if together is not None and together.held is not None:
        return Verdict(State.RECONCILING, Reason.UNSCHEDULABLE, together.held)
    return _starting(number, replicas) if sum(running(pod) for pod in workers) < replicas else None


@dataclass(frozen=True)
class Standing:
    """How the pods of a live gang stand."""

    verdict: Verdict | None
    """What keeps them from their work; None: they are at it."""
    together: Together | None
    wake_after: float | None
    """Seconds until more can be told."""


def standing(
    observed: Observed, view: View, workers: Workers | SweepWorkers, settings: Settings, now: datetime
) -> Standing | FailedCreates:
    """Return how the pods of the newest attempt stand, or what must be asked first."""
    count = view.workers(workers.replicas)
    absent = missing(observed, view, count, now)
    if absent.question is not None:
        return absent.question
    placed = together(observed, view, workers, settings, now)
    kept = injected.look(view.job, view.attempt_pods, now).verdict if view.job else None
    verdict = absent.verdict or getting_ready(view.attempt_pods, view.number, count, placed) or kept
    return Standing(verdict, placed, soonest(placed.wake_after if placed else None, absent.wake_after))


def put_back(observed: Observed, together: Together | None = None) -> tuple[Action, ...]:
    """Return what makes that which a live gang lacks: somebody deleted it, or the gang was held until now.

    The PodGroup belongs to the Job, so it is made when that is there.
    """
    names = () if observed.child("Service") else (Apply(service(observed.object)),)
    return names if together is None or together.missing is None else (*names, together.missing)


def after_the_end(
    observed: Observed, before: TrainingJobStatus | TuningSweepStatus, now: datetime, *, busy: bool = False
) -> Plan:
    """Stay as it ended, whatever becomes of the children; delete the object when its time is up.

    With `busy`, something that would be deleted with it still works, and that is waited for.
    """
    meta = observed.object["metadata"]
    generation = meta.get("generation")
    known = tuple(entry.model_copy(update={"observed_generation": generation}) for entry in before.conditions)
    status = before.model_copy(update={"conditions": known, "observed_generation": generation}).document()
    view = View(0, jobs_of(observed), observed.child("Pod"))
    rest: tuple[Action, ...] = (*leftovers(view), *strays(view))
    ttl = observed.object["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or before.completion_time is None or busy:
        return Plan(status, rest)
    left = ttl - seconds_between(before.completion_time, now)
    if left > 0:
        return Plan(status, rest, wake_after=left)
    return Plan(status, (*rest, Delete(ref(observed.object, observed.object["apiVersion"], observed.object["kind"]))))


def unchanged(observed: Observed) -> Plan:
    """Return the plan that leaves everything as it is."""
    return Plan(observed.object.get("status") or {})


def ask(observed: Observed, question: Question | Unavailable, before: Status, now: datetime) -> Plan | Ask:
    """Return what must be known; where that cannot be had now, look again soon.

    What was said before still stands; an object of which nothing was ever said gets to hear what it waits for.
    """
    if not isinstance(question, Unavailable):
        return Ask((question,))
    if before.conditions:
        return replace(unchanged(observed), wake_after=SOON)
    verdict = Verdict(State.RECONCILING, Reason.API_UNAVAILABLE, f"it cannot be looked up: {question.message}")
    return replace(say(observed, before, before, verdict, now), wake_after=SOON)


def held_up(before: Status, verdict: Verdict) -> Verdict:
    """Return what is said of an object that cannot go on now.

    One that was suspended still is: its Job may be gone for that, and must not be taken for a lost one later.
    """
    return replace(verdict, state=State.SUSPENDED) if is_suspended(before.conditions) else verdict


def unless_refused(observed: Observed, before: Status, wanted: Plan | Ask, now: datetime) -> Plan | Ask:
    """Return the plan that is wanted, or what is said while the API server refuses an action of it.

    What was refused did not happen, so the status may not say that it did.
    """
    refused = observed.rejection
    if refused is None or isinstance(wanted, Ask) or not wanted.actions:
        return wanted
    verdict = rejections.verdict(f"{refused.action}: {refused.message}", refused.unanswered)
    said = say(observed, before, before, held_up(before, verdict), now, ended=False)
    return replace(said, actions=wanted.actions, wake_after=SELDOM)


def ending(clock: Clock, now: datetime) -> dict[str, Any]:
    """Return the fields of a status that say that it is over for good."""
    return {"completion_time": stamp(now), **clock_fields(clock.stopped(now) if clock.since else clock)}


def unreadable(observed: Observed, store: Store, trouble: Unavailable) -> Verdict | Question:
    """Return why a document of an object cannot be read, or what must be asked first.

    Only now is it worth a question whether the Secret is there: somebody may have deleted it since the last attempt.
    """
    if store.secret_name is not None:
        question = SecretExists(store.namespace, store.secret_name)
        if question not in observed.answers:
            return question
        if observed.answers[question] is False:
            return Verdict(State.RECONCILING, Reason.SECRET_NOT_FOUND, _how_to_make(store))
    return storage_unavailable(trouble.message)


def storage_unavailable(message: str) -> Verdict:
    """Return the verdict on an object whose documents cannot be read."""
    return Verdict(State.RECONCILING, Reason.STORAGE_UNAVAILABLE, f"storage cannot be read: {message}")


def clock_fields(clock: Clock) -> dict[str, Any]:
    """Return the fields of a status that keep a clock."""
    return {"start_time": clock.start_time, "active_seconds": clock.seconds, "active_since": clock.since}


def pods(count: int) -> str:
    """Return `1 pod`, `2 pods`."""
    return "1 pod" if count == 1 else f"{count} pods"


def _starting(number: int, replicas: int) -> Verdict:
    return Verdict(State.RECONCILING, Reason.STARTING, f"attempt {number} starts on {pods(replicas)}")


def _how_to_make(store: Store) -> str:
    return (
        f"there is no Secret {store.secret_name} in the namespace {store.namespace}: kubectl create secret generic "
        f"{store.secret_name} -n {store.namespace} --from-literal=AWS_ACCESS_KEY_ID=... "
        "--from-literal=AWS_SECRET_ACCESS_KEY=..."
    )


def say(
    observed: Observed,
    before: Status,
    status: Status,
    verdict: Verdict,
    now: datetime,
    *,
    ended: bool = True,
) -> Plan:
    """Return a plan that only says a verdict about a kind that ends, with an event where the verdict is news."""
    generation = observed.object["metadata"].get("generation")
    said = conditions(verdict, generation=generation, before=before.conditions, now=now, succeeded=True, ended=ended)
    after = status.model_copy(update={"observed_generation": generation, "conditions": said})
    return Plan(after.document(), events=on_change(before.conditions, said))
