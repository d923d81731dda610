"""One life of the operator's process: the real reconciler and queue, on a cluster and a bucket in virtual time."""

import asyncio
import atexit
import math
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from modelwright.api.run import SweepReport, TrainingReport
from modelwright.kube.act import Hands
from modelwright.kube.admission import Admission
from modelwright.kube.answers import Answers
from modelwright.kube.events import EventPoster
from modelwright.kube.inbox import Inbox
from modelwright.kube.objects import Key
from modelwright.kube.queue import Outcome, Queue, Schedule
from modelwright.kube.reconcile import Parts, Planner, Reconciler
from modelwright.kube.refusals import Refusals
from modelwright.kube.stores import Stores
from modelwright.kube.watches import WatchIndex
from modelwright.kube.wiring import Dispatcher
from modelwright.plan.actions import Ask, Object, Plan
from modelwright.plan.observed import Alert, Observed
from modelwright.plan.settings import Settings
from tests.simulation.client import SimClient
from tests.simulation.cluster import Cluster, key_of
from tests.simulation.faults import Faults, Pen
from tests.simulation.store import Bucket, OperatorStore
from tests.simulation.views import Views

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """What outlives a process: the world that it runs in, and the records of what it did there."""

    cluster: Cluster
    bucket: Bucket
    planners: Mapping[str, Planner]
    settings: Settings
    faults: Faults
    writes: list[str]
    """Every write of all lives, in words."""
    on_status: Callable[[Object], None]
    """Told of every status that was written, in the object as the plan for it saw that."""
    on_event: Callable[[Object], None]


class Operator:
    """One life of the process."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.looks = 0
        """How often this process has looked at any object."""
        self._planned: dict[Key, Object] = {}
        """What the last plan for an object saw of it."""
        clock, now = self._clock, stage.cluster.clock
        pen = Pen(stage.faults, stage.writes)
        client = SimClient(stage.cluster, pen, self._tell_status, stage.on_event)
        self._views = Views(stage.cluster, stage.faults, clock)
        self._queue = Queue(1, clock)
        self.lose_wakes()
        self._watches = WatchIndex()
        self._views.subscribe(Dispatcher(self._views, self._watches, self._queue))
        stores = Stores(client, lambda _: False, lambda *_: OperatorStore(stage.bucket, pen), clock)
        self._events = EventPoster(client, _METERS, "simulated", clock, now)
        self._inbox = Inbox(self._queue.add, clock)
        hands = Hands(client, self._views, stores, now)
        refusals = Refusals(self._queue.add)
        parts = Parts(
            client=client,
            objects=self._views,
            answers=Answers(client, self._views, stores),
            hands=hands,
            events=self._events,
            inbox=self._inbox,
            watches=self._watches,
            metrics=_METERS,
            refusals=refusals,
        )
        planners = {kind: self._checked(planner) for kind, planner in stage.planners.items()}
        self._reconciler = Reconciler(parts, planners, stage.settings, self._queue.add, clock, now)
        self._admission = Admission(self._views, hands, stage.settings.quotas, clock, refusals)
        self._views.begin()
        self._admission.take_over()

    def resync(self) -> None:
        """Look at everything once, as after a start."""
        for key in self.keys():
            self.wake(key)

    def keys(self) -> list[Key]:
        """Return the addresses of all objects that this operator plans for."""
        return [key for key in self._stage.cluster.objects if key.kind in self._stage.planners]

    def wake(self, key: Key, delay: float = 0.0) -> None:
        """Have a key looked at after so many seconds, or earlier."""
        self._queue.add(key, delay)

    def lose_wakes(self) -> None:
        """Forget what is to be looked at."""
        # The longest pauses that may be: without chance, a run can be repeated.
        self._queue.schedule = Schedule(jitter=lambda: 1.0)

    def next_look(self) -> datetime | None:
        """Return when something is to be looked at, in whole seconds."""
        if self._queue.schedule.depth():
            return self._stage.cluster.clock()
        due = self._queue.schedule.next_due()
        return None if due is None else datetime.fromtimestamp(math.ceil(due), UTC)

    def run_due(self) -> None:
        """Take in what the watches say, and look at all keys whose time has come."""
        self._views.listen()
        schedule, now, batch = self._queue.schedule, self._clock(), []
        # What one causes for another is for the next round.
        while (key := schedule.pop(now)) is not None:
            batch.append(key)
        if batch:
            for key, outcome in _run(self._look_at(batch)):
                schedule.finish(key, outcome, now)
        _run(self._admission.decide())

    def reconcile(self, key: Key) -> Outcome:
        """Look at one object once."""
        ((_, outcome),) = _run(self._look_at([key]))
        return outcome

    def view(self, key: Key) -> Object | None:
        """Return an object as this process sees it now."""
        return self._views.get(key)

    def report(self, uid: str, report: TrainingReport | SweepReport) -> None:
        """Take in what a pod reports of the object with a UID."""
        key = self._views.owner_key(uid)
        if key is not None:
            self._inbox.report(key, uid, report)

    def submit(self, key: Key, alerts: Iterable[Alert]) -> asyncio.Future[None]:
        """Take in alerts; the future is done when they are dealt with."""

        async def submit() -> asyncio.Future[None]:
            return self._inbox.submit(key, alerts)

        return _run(submit())

    def withdraw(self, key: Key, future: asyncio.Future[None]) -> None:
        """Stop waiting for alerts to be dealt with."""
        self._inbox.withdraw(key, future)

    async def _look_at(self, keys: Iterable[Key]) -> list[tuple[Key, Outcome]]:
        """Look at several objects at once, as the process does: they take turns at every call."""
        looks = {key: asyncio.create_task(self._reconciler.reconcile(key)) for key in keys}
        self.looks += len(looks)
        done, _ = await asyncio.wait(looks.values(), return_when=asyncio.FIRST_EXCEPTION)
        failed = [look for look in done if look.exception() is not None]
        for look in looks.values():
            look.cancel()
        await asyncio.wait(looks.values())
        for look in failed:
            look.result()
        await self._post_events()
        return [(key, look.result()) for key, look in looks.items()]

    async def _post_events(self) -> None:
        if self._events.waiting():
            posting = asyncio.create_task(self._events.run())
            # One turn is enough: a post of this client's does not wait.
            await asyncio.sleep(0)
            posting.cancel()
            await asyncio.wait({posting})

    def _clock(self) -> float:
        return self._stage.cluster.clock().timestamp()

    def _checked(self, planner: Planner) -> Planner:
        def plan(observed: Observed, settings: Settings, now: datetime) -> Plan | Ask:
            self._planned[key_of(observed.object)] = observed.object
            decision = planner(observed, settings, now)
            if isinstance(decision, Ask):
                assert not {*decision.questions} <= {*observed.answers}, f"asked twice: {decision.questions}"
            return decision

        return plan

    def _tell_status(self, written: Object) -> None:
        # What it says is about the generation that was observed, which may be an older one by now.
        generation = self._planned[key_of(written)]["metadata"]["generation"]
        self._stage.on_status({**written, "metadata": {**written["metadata"], "generation": generation}})


class _Meter:
    """Any metric; it counts nothing."""

    def labels(self, *values: str) -> "_Meter":
        return self

    def observe(self, value: float) -> None:
        """Measure nothing."""

    def inc(self) -> None:
        """Count nothing."""


class _Bugs(_Meter):
    """The metric of errors that no code foresaw: what the reconciler counts and logs comes out again."""

    def inc(self) -> None:
        """Raise the exception that is being handled."""
        error = sys.exception()
        assert error is not None
        raise error


class _Meters:
    """Stands in for `Metrics`, which is slow to build."""

    errors = _Bugs()

    def __getattr__(self, name: str) -> _Meter:
        return _METER


class _Loop(asyncio.SelectorEventLoop):
    """An event loop without threads: what would go to one is done at once."""

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        done.set_result(func(*args))
        return done


_METER = _Meter()
_METERS = _Meters()
_LOOP = _Loop()
atexit.register(_LOOP.close)


def _run(work: Coroutine[Any, Any, T]) -> T:
    return _LOOP.run_until_complete(work)
