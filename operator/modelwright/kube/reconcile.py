"""One look at one object: observe, plan, act, write status, say what happened, and arm the next look.

Nothing here decides; what to do is the plan's, and which failure leads to which retry is in `Outcome`.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeAlias

from modelwright.api.schema import API_VERSION
from modelwright.kube import errors, status
from modelwright.kube.act import Hands, describe
from modelwright.kube.answers import Answers
from modelwright.kube.client import Client
from modelwright.kube.clock import utc_now
from modelwright.kube.events import EventPoster
from modelwright.kube.inbox import Inbox
from modelwright.kube.lease import LostError
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Key, Objects
from modelwright.kube.queue import Outcome
from modelwright.kube.refusals import Refusals
from modelwright.kube.resources import RAY_JOB, find
from modelwright.kube.turns import Busy
from modelwright.kube.watches import WatchIndex
from modelwright.plan.actions import Action, AliasWatch, Ask, Event, MoveAlias, Object, Plan, Rejection
from modelwright.plan.observed import Observed
from modelwright.plan.questions import Answer, Question
from modelwright.plan.settings import Settings

Planner: TypeAlias = Callable[[Observed, Settings, datetime], Plan | Ask]

CONFIRM_SECONDS = 20.0
"""An object not seen for so long is read again before a plan for it writes anything.

kopf says nothing of objects that were deleted while its watch was down, and no watch says anything while it is deaf.
Writing children for an object that is gone would start pods for nobody. A deletion within these seconds is the race
that every controller has; the UID in the owner reference and in the status write makes it harmless.
"""
SETTLE_SECONDS = 0.1
"""After a write the object is looked at once more, together with the echoes that the write causes."""
_ROUNDS = 10
_PAUSES = (30.0, 1800.0)
"""Seconds until the second try of what was refused, and the most until a further one."""
_SHORT_PAUSES = (1.0, 300.0)
"""Where a webhook does not answer, as where the API server does not."""

log = logging.getLogger(__name__)


class Wake(Protocol):
    """Have a key looked at after some seconds."""

    def __call__(self, key: Key, delay: float = 0.0) -> None:
        """Arm it."""


class EndlessQuestionsError(Exception):
    """A planner went on asking: a bug."""


@dataclass(frozen=True)
class _Refused:
    """An action that was refused, for which spec, how often, since when, and until when it is not tried again."""

    action: Action
    before: tuple[Action, ...]
    """What the same plan wanted first, and got."""
    rejection: Rejection
    spec: tuple[str, int]
    times: int
    since: float
    until: float


@dataclass
class Parts:
    """What a reconciler works with."""

    client: Client
    objects: Objects
    answers: Answers
    hands: Hands
    events: EventPoster
    inbox: Inbox
    watches: WatchIndex
    metrics: Metrics
    refusals: Refusals = field(default_factory=Refusals)


class Reconciler:
    """Reconciles any of our objects."""

    def __init__(
        self,
        parts: Parts,
        planners: Mapping[str, Planner],
        settings: Settings,
        wake: Wake,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._parts = parts
        self._planners = planners
        self.settings = settings
        """For all plans. What the cluster can do is found out before the first of them."""
        self._wake = wake
        self._clock = clock
        self._now = now
        self._refused: dict[Key, _Refused] = {}

    async def reconcile(self, key: Key) -> Outcome:
        """Look at an object once. Never raises, but for cancellation."""
        begun = self._clock()
        outcome = await self._guarded(key)
        self._parts.metrics.reconcile_seconds.labels(key.kind, outcome.result).observe(self._clock() - begun)
        return outcome

    async def _guarded(self, key: Key) -> Outcome:
        try:
            return await self._reconcile(key)
        except errors.Conflict as error:
            log.info("%s %s/%s changed while it was worked on: %s", *key, error.message)
            return Outcome("conflict", retry=True)
        except errors.Rejected as error:
            log.warning("%s %s/%s: refused: %s", *key, error.message)
            return Outcome("rejected", retry=True)
        except errors.ApiError as error:
            log.warning("%s %s/%s: %s", *key, error.message)
            return Outcome("unavailable", retry=True, retry_after=error.retry_after or 0.0)
        except Busy:
            # Nothing is known that a status could say: what it says stands.
            return Outcome("busy", retry=True)
        except LostError as error:
            log.warning("%s %s/%s is left to the next leader: %s", *key, error)
            return Outcome("lost", retry=True)
        except Exception:
            self._parts.metrics.errors.labels(key.kind).inc()
            log.exception("%s %s/%s: unexpected error", *key)
            return Outcome("error", retry=True)

    async def _reconcile(self, key: Key) -> Outcome:
        document = self._parts.objects.get(key)
        if document is None or document["metadata"].get("deletionTimestamp"):
            # Children go by their owner references; there is nothing to finish.
            self._forget(key)
            return Outcome("gone")
        refused = self._standing(key, document)
        observed = self._observe(key, document, refused)
        plan, observed = await self._decide(key, observed)
        if plan.actions and not await self._confirmed(key, document):
            return Outcome("stale", wake_after=0.0)
        wrote, refused = await self._act(key, document, plan, refused)
        if refused is not None and observed.rejection is None:
            observed = replace(observed, rejection=refused.rejection)
            plan, observed = await self._decide(key, observed)
        try:
            wrote = await self._write_status(key, document, plan.status) or wrote
        except errors.Rejected as error:
            await self._say_refused(key, document, plan, error)
            return Outcome("rejected", retry=True)
        self._conclude(key, document, plan, observed)
        return self._next(plan, wrote, refused)

    def _forget(self, key: Key) -> None:
        self._refused.pop(key, None)
        self._parts.watches.set(key, ())
        self._parts.inbox.forget(key)

    def _standing(self, key: Key, document: Object) -> _Refused | None:
        refused = self._refused.get(key)
        if refused is not None and refused.spec == _spec_of(document) and self._clock() < refused.until:
            return refused
        return None

    def _observe(self, key: Key, document: Object, refused: _Refused | None) -> Observed:
        uid = document["metadata"]["uid"]
        children = self._parts.objects.children(uid)
        return Observed(
            object=document,
            children=children,
            report=self._parts.inbox.last_report(key, uid),
            alerts=self._parts.inbox.alerts(key),
            rejection=refused.rejection if refused else None,
            held_back=self._parts.refusals.of((*children.get("Job", ()), *children.get(RAY_JOB.kind, ()))),
        )

    async def _decide(self, key: Key, observed: Observed) -> tuple[Plan, Observed]:
        planner = self._planners[key.kind]
        for _ in range(_ROUNDS):
            decision = planner(observed, self.settings, self._now())
            if isinstance(decision, Plan):
                return decision, observed
            answers: dict[Question, Answer] = dict(observed.answers)
            for question in decision.questions:
                if question not in answers:
                    answers[question] = await self._parts.answers.answer(question)
            observed = replace(observed, answers=answers)
        raise EndlessQuestionsError(f"the planner of {key.kind} has asked {_ROUNDS} times")

    async def _confirmed(self, key: Key, document: Object) -> bool:
        """Return whether the object is still there as the plan saw it."""
        uid, version = document["metadata"]["uid"], int(document["metadata"]["resourceVersion"])
        record = self._parts.objects.record(key)
        if record is not None and (record.uid, record.version) == (uid, version):
            if self._clock() - record.seen < CONFIRM_SECONDS:
                return True
            try:
                self._parts.objects.put(await self._parts.client.get(find(API_VERSION, key.kind), *key[1:]))
            except errors.NotFound:
                self._parts.objects.remove(key, uid)
        record = self._parts.objects.record(key)
        return record is not None and (record.uid, record.version) == (uid, version)

    async def _act(
        self, key: Key, document: Object, plan: Plan, refused: _Refused | None
    ) -> tuple[bool, _Refused | None]:
        """Carry out actions until one is refused, or was refused and still is."""
        wrote = False
        for done, action in enumerate(plan.actions):
            if refused is not None and action == refused.action:
                return wrote, refused
            if refused is not None and action in refused.before:
                continue
            try:
                wrote = await self._parts.hands.carry_out(action, key) or wrote
            except (errors.Rejected, errors.NotFound, errors.WebhookDown) as error:
                return wrote, self._refuse(key, document, plan.actions[: done + 1], error)
            self._moved(key, action)
        if refused is None:
            self._refused.pop(key, None)
        # A plan that knows of the refusal may leave the action out; that does not make it welcome again.
        return wrote, refused

    def _refuse(self, key: Key, document: Object, actions: tuple[Action, ...], error: errors.ApiError) -> _Refused:
        *carried_out, action = actions
        spec, now, down = _spec_of(document), self._clock(), isinstance(error, errors.WebhookDown)
        before, times, since = self._refused.get(key), 1, now
        if before is not None and (before.spec, before.rejection.unanswered is not None) == (spec, down):
            times, since = before.times + 1, before.since
        rejection = Rejection(describe(action), error.message, now - since if down else None)
        log.warning("%s %s/%s: %s was refused: %s", *key, rejection.action, rejection.message)
        first, longest = _SHORT_PAUSES if down else _PAUSES
        pause = min(longest, first * 2.0 ** min(times - 1, 20))
        refused = self._refused[key] = _Refused(action, tuple(carried_out), rejection, spec, times, since, now + pause)
        return refused

    def _moved(self, key: Key, action: Action) -> None:
        if isinstance(action, MoveAlias):
            moved = AliasWatch(action.store.storage.uri, action.model, action.alias)
            for holder in self._parts.watches.holders(moved):
                if holder != key:
                    self._wake(holder)

    async def _say_refused(self, key: Key, document: Object, plan: Plan, error: errors.Rejected) -> None:
        """Say in an event and in the conditions alone that the rest of the status was refused."""
        message = f"the API server refused the status: {error.message}"
        log.warning("%s %s/%s: %s", *key, message)
        self._parts.events.post(document, Event("Warning", status.REFUSED, message))
        await self._write_status(key, document, status.refused(document, plan.status, message, self._now()))

    async def _write_status(self, key: Key, document: Object, wanted: Object) -> bool:
        """Write the status where it says something new; return whether the object changed by that."""
        if status.same(wanted, document.get("status")):
            return False
        metadata = document["metadata"]
        body = {
            "apiVersion": document["apiVersion"],
            "kind": document["kind"],
            # A successor of the same name must not get the status of its predecessor; and what was planned on an old
            # view, as by a process that was held up, must not be written over a newer status.
            "metadata": {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")},
            "status": status.without_nulls(wanted),
        }
        try:
            written = await self._parts.client.apply(body, "status")
        except errors.NotFound:
            self._parts.objects.remove(key, metadata["uid"])
            return False
        self._parts.metrics.status_writes.labels(key.kind).inc()
        self._parts.objects.put(written, key)
        return bool(written["metadata"]["resourceVersion"] != metadata["resourceVersion"])

    def _conclude(self, key: Key, document: Object, plan: Plan, observed: Observed) -> None:
        for event in plan.events:
            self._parts.events.post(document, event)
        self._parts.watches.set(key, plan.watches)
        if not plan.postponed:
            self._parts.inbox.handled(key, observed.alerts)

    def _next(self, plan: Plan, wrote: bool, refused: _Refused | None) -> Outcome:
        times = [SETTLE_SECONDS] if wrote else []
        times += [] if plan.wake_after is None else [plan.wake_after]
        times += [] if refused is None else [max(0.0, refused.until - self._clock())]
        result = "rejected" if refused is not None else "written" if wrote else "unchanged"
        return Outcome(result, wake_after=min(times, default=None))


def _spec_of(document: Object) -> tuple[str, int]:
    metadata = document["metadata"]
    return metadata["uid"], metadata.get("generation", 0)
