"""A reconciler on a bench: a fake API server on one side, a planner that a test writes on the other."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from modelwright.api.run import ResolvedStorage
from modelwright.kube.act import Hands
from modelwright.kube.answers import Answers
from modelwright.kube.events import EventPoster
from modelwright.kube.inbox import Inbox
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Key, Objects
from modelwright.kube.queue import Outcome
from modelwright.kube.reconcile import Parts, Reconciler
from modelwright.kube.stores import Stores
from modelwright.kube.watches import WatchIndex
from modelwright.plan.actions import Ask, Plan
from modelwright.plan.observed import Observed
from modelwright.plan.questions import Store
from modelwright.plan.settings import Settings
from tests.unit.kube.fake_api import Clock, FakeApi, child

KEY = Key("TrainingJob", "ns", "a")
JOB = child("Job", "a-1", "uid-a", spec={"suspend": True})
STORE = Store(ResolvedStorage(uri="s3://bucket/x"), "ns", None)
READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "Done", "message": "done"}]}


def _version_seven(self: Any, key: str, heaviest: int) -> dict[str, int]:
    return {"version": 7}


class Bench:
    """A reconciler between a fake API server and a planner that a test writes."""

    def __init__(self, planner: Callable[[Observed], Plan | Ask]) -> None:
        self.api, self.clock, self.metrics = FakeApi(), Clock(), Metrics()
        self.objects, self.watches = Objects(self.clock), WatchIndex()
        self.woken: list[Key] = []
        self.inbox = Inbox(self.wake, self.clock)
        self.store = type("FakeStore", (), {"read_json": _version_seven})()
        stores = Stores(self.api, lambda _: True, lambda storage, credentials: self.store, self.clock)
        self.events = EventPoster(self.api, self.metrics, "test", self.clock)
        self.seen: list[Observed] = []
        self.planner = planner
        self.hands = Hands(self.api, self.objects, stores)
        parts = Parts(
            self.api,
            self.objects,
            Answers(self.api, self.objects, stores),
            self.hands,
            self.events,
            self.inbox,
            self.watches,
            self.metrics,
        )
        planners = dict.fromkeys(("TrainingJob", "DriftPolicy"), self._plan)
        self.reconciler = Reconciler(parts, planners, Settings("r", "s"), self.wake, self.clock)

    def wake(self, key: Key, delay: float = 0.0) -> None:
        self.woken.append(key)

    def _plan(self, observed: Observed, settings: Settings, now: datetime) -> Plan | Ask:
        self.seen.append(observed)
        return self.planner(observed)

    def show(self, document: dict[str, Any]) -> dict[str, Any]:
        shown = self.api.add(document)
        self.objects.put(shown)
        return shown

    async def look(self) -> Outcome:
        return await self.reconciler.reconcile(KEY)


def making(status: dict[str, Any], *actions: Any, **more: Any) -> Callable[[Observed], Plan]:
    return lambda observed: Plan(status, actions, **more)
