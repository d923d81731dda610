import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from modelwright.api.run import ResolvedStorage, TrainingReport
from modelwright.kube import errors
from modelwright.kube.act import Hands
from modelwright.kube.answers import Answers
from modelwright.kube.events import EventPoster
from modelwright.kube.inbox import Inbox
from modelwright.kube.lease import LostError
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Key, Objects
from modelwright.kube.queue import Outcome
from modelwright.kube.reconcile import CONFIRM_SECONDS, SETTLE_SECONDS, Parts, Reconciler
from modelwright.kube.stores import Stores
from modelwright.kube.watches import WatchIndex
from modelwright.plan.actions import (
    AliasWatch,
    Apply,
    Ask,
    CreateSecret,
    Delete,
    Event,
    MoveAlias,
    ObjectWatch,
    Patch,
    Plan,
    Ref,
)
from modelwright.plan.observed import Alert, Observed
from modelwright.plan.questions import ReadDocument, ReadLive, ReadObject, SecretExists, Store, Unavailable
from modelwright.plan.settings import Settings
from modelwright.registry.errors import AliasMoved, StoreError
from tests.unit.kube.fake_api import Clock, FakeApi, child, count, of_kind, training_job

KEY = Key("TrainingJob", "ns", "a")
JOB = child("Job", "a-1", "uid-a", spec={"suspend": True})
STORE = Store(ResolvedStorage(uri="s3://bucket/x"), "ns", None)
READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "Done", "message": "done"}]}


def _version_seven(self: Any, key: str) -> dict[str, int]:
    return {"version": 7}


class Bench:
    """A reconciler between a fake API server and a planner that a test writes."""

    def __init__(self, planner: Callable[[Observed], Plan | Ask]) -> None:
        self.api, self.clock, self.metrics = FakeApi(), Clock(), Metrics()
        self.objects, self.watches = Objects(self.clock), WatchIndex()
        self.woken: list[Key] = []
        self.inbox = Inbox(self.wake, self.clock)
        self.store = type("FakeStore", (), {"read_json": _version_seven})()
        stores = Stores(self.api, lambda storage, credentials: self.store, self.clock)
        self.events = EventPoster(self.api, self.metrics, "test", self.clock)
        self.seen: list[Observed] = []
        self.planner = planner
        parts = Parts(
            self.api,
            self.objects,
            Answers(self.api, self.objects, stores),
            Hands(self.api, self.objects, stores),
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


async def test_actions_come_first_then_the_status() -> None:
    bench = Bench(making(READY, Apply(JOB)))
    bench.show(training_job())
    outcome = await bench.look()
    assert bench.api.writes == [("apply", "Job", "a-1"), ("apply status", "TrainingJob", "a")]
    assert bench.objects.get(KEY)["status"] == READY
    assert bench.objects.get(Key("Job", "ns", "a-1")) is not None
    assert (outcome.result, outcome.wake_after) == ("written", SETTLE_SECONDS)
    assert count(bench.metrics, "modelwright_status_writes_total", kind="TrainingJob") == 1


async def test_nothing_is_written_when_nothing_differs_and_the_wake_up_is_the_plans() -> None:
    bench = Bench(making(READY, wake_after=60.0))
    bench.show({**training_job(), "status": READY})
    outcome = await bench.look()
    assert bench.api.calls == []
    assert (outcome.result, outcome.wake_after) == ("unchanged", 60.0)


async def test_a_second_look_after_the_writes_writes_nothing() -> None:
    bench = Bench(lambda observed: Plan(READY, () if observed.child("Job") else (Apply(JOB),)))
    bench.show(training_job())
    await bench.look()
    written = len(bench.api.writes)
    assert (await bench.look()).result == "unchanged"
    assert len(bench.api.writes) == written


async def test_a_status_that_the_server_does_not_take_over_is_no_reason_to_hurry() -> None:
    bench = Bench(making({"nowhere": 1}, wake_after=60.0))
    shown = bench.show(training_job())

    async def pruning(document: dict[str, Any], subresource: str | None = None) -> dict[str, Any]:
        return shown

    bench.api.apply = pruning
    assert (await bench.look()).wake_after == 60.0


async def test_an_apply_that_changes_nothing_is_no_reason_to_look_again() -> None:
    bench = Bench(making(READY, Apply(JOB), wake_after=60.0))
    bench.show({**training_job(), "status": READY})
    bench.show(JOB)
    assert (await bench.look()).wake_after == 60.0


async def test_objects_on_their_way_out_are_left_alone_and_forgotten() -> None:
    bench = Bench(making(READY, Apply(JOB)))
    document = training_job()
    document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    bench.show(document)
    bench.inbox.report(KEY, "uid-a", TrainingReport(attempt=1))
    bench.watches.set(KEY, [ObjectWatch("TrainingJob", "ns", "b")])
    assert (await bench.look()).result == "gone"
    assert (bench.seen, bench.api.calls) == ([], [])
    assert bench.inbox.last_report("uid-a") is None
    assert bench.watches.holders(ObjectWatch("TrainingJob", "ns", "b")) == ()


async def test_the_plan_sees_children_report_and_alerts() -> None:
    bench = Bench(making(READY))
    bench.show({**training_job(), "status": READY})
    bench.show(JOB)
    bench.inbox.report(KEY, "uid-a", TrainingReport(attempt=1))
    waiting = bench.inbox.submit(KEY, [Alert("1", "t", {})])
    await bench.look()
    observed = bench.seen[0]
    assert [job["metadata"]["name"] for job in observed.child("Job")] == ["a-1"]
    assert observed.report == TrainingReport(attempt=1)
    assert observed.alerts == (Alert("1", "t", {}),)
    assert waiting.done()


async def test_alerts_stay_when_the_plan_could_not_be_carried_out() -> None:
    bench = Bench(making(READY, Apply(JOB)))
    bench.show(training_job())
    waiting = bench.inbox.submit(KEY, [Alert("1", "t", {})])
    bench.api.fail = lambda verb, kind, name: errors.Unavailable("503", 503) if kind == "Job" else None
    assert (await bench.look()).retry
    assert not waiting.done()
    bench.api.fail = lambda verb, kind, name: None
    await bench.look()
    assert waiting.done()


async def test_questions_are_answered_until_there_is_a_plan() -> None:
    questions = (
        SecretExists("ns", "keys"),
        ReadObject("TrainingJob", "ns", "a"),
        ReadLive("TrainingJob", "ns", "nobody"),
        ReadDocument(STORE, "x.json"),
    )

    def curious(observed: Observed) -> Plan | Ask:
        missing = [question for question in questions if question not in observed.answers]
        return Ask(tuple(missing[:2])) if missing else Plan(READY)

    bench = Bench(curious)
    bench.show(training_job())
    await bench.look()
    answers = bench.seen[-1].answers
    assert len(bench.seen) == 3
    assert [answers[question] is None or answers[question] for question in questions[::2]] == [False, True]
    assert answers[questions[1]]["metadata"]["name"] == "a"
    assert answers[questions[3]] == {"version": 7}


async def test_what_cannot_be_answered_is_said_to_be_unavailable() -> None:
    question = SecretExists("ns", "keys")
    bench = Bench(lambda observed: Plan(READY) if observed.answers else Ask((question,)))
    bench.show(training_job())
    bench.api.fail = lambda verb, kind, name: errors.Rejected("forbidden", 403) if kind == "Secret" else None
    await bench.look()
    assert bench.seen[-1].answers[question] == Unavailable("forbidden")


async def test_a_planner_that_never_stops_asking_is_an_error_and_not_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(lambda observed: Ask((SecretExists("ns", str(len(observed.answers))),)))
    bench.show(training_job())
    with caplog.at_level(logging.ERROR):
        outcome = await bench.look()
    assert outcome.retry
    assert "has asked" in caplog.text
    assert len(bench.seen) == 10


async def test_a_bug_is_logged_counted_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def broken(observed: Observed) -> Plan:
        raise KeyError("spec")

    bench = Bench(broken)
    bench.show(training_job())
    with caplog.at_level(logging.ERROR):
        outcome = await bench.look()
    assert (outcome.result, outcome.retry) == ("error", True)
    assert "Traceback" in caplog.text
    assert count(bench.metrics, "modelwright_unexpected_errors_total", kind="TrainingJob") == 1


async def test_a_refusal_is_said_in_the_status_at_once_and_tried_again_ever_more_rarely() -> None:
    def planner(observed: Observed) -> Plan:
        said = observed.rejection.message if observed.rejection else "starting"
        return Plan({"said": said}, (Apply(JOB),), wake_after=300.0)

    bench = Bench(planner)
    bench.show(training_job())
    bench.api.fail = lambda verb, kind, name: errors.Rejected("exceeded quota", 403) if kind == "Job" else None
    outcome = await bench.look()
    assert outcome.result == "rejected"
    assert bench.objects.get(KEY)["status"] == {"said": "exceeded quota"}
    assert bench.seen[-1].rejection.action == "apply Job a-1"

    await bench.look()
    assert bench.api.writes.count(("apply", "Job", "a-1")) == 1

    waits = []
    for _ in range(8):
        outcome = await bench.look()
        waits.append(outcome.wake_after)
        bench.clock.now += outcome.wake_after
    assert waits[:3] == [30, 60, 120]
    assert max(waits) == 300
    assert bench.objects.get(KEY)["status"] == {"said": "exceeded quota"}
    assert bench.api.writes.count(("apply status", "TrainingJob", "a")) == 1


async def test_a_changed_spec_ends_the_wait_after_a_refusal() -> None:
    bench = Bench(making(READY, Apply(JOB)))
    bench.show(training_job())
    bench.api.fail = lambda verb, kind, name: errors.Rejected("no", 422) if kind == "Job" else None
    await bench.look()
    bench.api.fail = lambda verb, kind, name: None
    changed = bench.objects.get(KEY)
    changed["metadata"]["generation"] = 2
    bench.show(changed)
    assert (await bench.look()).result == "written"
    assert Key("Job", "ns", "a-1") in bench.api.objects


async def test_actions_before_the_refused_one_are_carried_out_once() -> None:
    service = child("Service", "a", "uid-a", spec={})
    bench = Bench(
        making(READY, Apply(service), Apply(JOB), Apply({**JOB, "metadata": {**JOB["metadata"], "name": "x"}}))
    )
    bench.show(training_job())
    bench.api.fail = lambda verb, kind, name: errors.Rejected("no", 422) if name == "a-1" else None
    await bench.look()
    assert (await bench.look()).wake_after > SETTLE_SECONDS
    assert [call for call in bench.api.writes if call[1] != "TrainingJob"] == [
        ("apply", "Service", "a"),
        ("apply", "Job", "a-1"),
    ]


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (errors.Unavailable("503", 503), "unavailable"),
        (errors.Conflict("409", 409), "conflict"),
        (LostError("the Lease is gone"), "lost"),
    ],
)
async def test_what_may_pass_is_tried_again_and_says_nothing_new(error: Exception, result: str) -> None:
    bench = Bench(making(READY, Apply(JOB)))
    bench.show(training_job())
    bench.api.fail = lambda verb, kind, name: error if kind == "Job" else None
    outcome = await bench.look()
    assert (outcome.result, outcome.retry) == (result, True)
    assert "status" not in bench.objects.get(KEY)


async def test_before_it_writes_for_an_object_not_seen_for_long_it_asks_whether_it_is_still_there() -> None:
    bench = Bench(making(READY, Apply(JOB)))
    bench.show(training_job())
    del bench.api.objects[KEY]
    bench.clock.now += CONFIRM_SECONDS + 1
    assert (await bench.look()).result == "stale"
    assert bench.api.writes == []
    assert (await bench.look()).result == "gone"


async def test_an_object_that_changed_unseen_is_planned_anew_before_anything_is_written() -> None:
    bench = Bench(lambda observed: Plan(READY, () if observed.object["spec"] else (Apply(JOB),)))
    bench.show(training_job())
    bench.api.add(training_job(suspend=True))
    bench.clock.now += CONFIRM_SECONDS + 1
    assert (await bench.look()).result == "stale"
    await bench.look()
    assert ("apply", "Job", "a-1") not in bench.api.writes


async def test_an_object_seen_just_now_is_not_read_again() -> None:
    bench = Bench(making(READY, Apply(JOB)))
    bench.show(training_job())
    await bench.look()
    assert ("get", "TrainingJob", "a") not in bench.api.calls


async def test_a_status_never_goes_to_a_successor_of_the_same_name() -> None:
    bench = Bench(making(READY))
    bench.show(training_job())
    successor = training_job()
    successor["metadata"]["uid"] = "another"
    bench.api.add(successor)
    assert (await bench.look()).retry
    assert "status" not in bench.api.objects[KEY]


async def test_the_status_of_an_object_that_is_gone_is_no_error() -> None:
    bench = Bench(making(READY))
    bench.show(training_job())
    del bench.api.objects[KEY]
    await bench.look()
    assert bench.objects.get(KEY) is None


async def test_deleting_what_is_gone_or_another_is_done() -> None:
    ref = Ref("batch/v1", "Job", "ns", "a-1", "uid-a-1")
    bench = Bench(making(READY, Delete(ref), Delete(Ref("v1", "Service", "ns", "a", "old"))))
    bench.show(training_job())
    bench.objects.put({**JOB, "metadata": {**JOB["metadata"], "uid": "uid-a-1", "resourceVersion": "1"}})
    bench.api.add(child("Service", "a", "uid-a"))
    assert (await bench.look()).result == "written"
    assert bench.objects.get(Key("Job", "ns", "a-1")) is None
    assert Key("Service", "ns", "a") in bench.api.objects


async def test_a_patch_changes_one_life_of_an_object() -> None:
    bench = Bench(making(READY, Patch(Ref("batch/v1", "Job", "ns", "a-1", "uid-a-1"), {"spec": {"suspend": False}})))
    bench.show(training_job())
    bench.show(JOB)
    await bench.look()
    assert bench.objects.get(Key("Job", "ns", "a-1"))["spec"] == {"suspend": False}


async def test_a_token_secret_is_made_once_with_a_long_random_value() -> None:
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ray", "namespace": "ns"}}
    bench = Bench(making(READY, CreateSecret(document, ("token",))))
    bench.show(training_job())
    await bench.look()
    token = bench.api.objects[Key("Secret", "ns", "ray")]["stringData"]["token"]
    assert len(token) == 64
    await bench.look()
    assert bench.api.objects[Key("Secret", "ns", "ray")]["stringData"]["token"] == token


async def test_events_and_watches_of_a_plan_are_taken_over() -> None:
    watch = ObjectWatch("ModelDeployment", "ns", "d")
    bench = Bench(making(READY, events=(Event("Normal", "Started", "it runs"),), watches=(watch,)))
    bench.show(training_job())
    await bench.look()
    assert bench.watches.holders(watch) == (KEY,)
    assert bench.events.waiting() == 1


MOVE = MoveAlias(STORE, "m", "champion", 2, 1, "me", "better")


def _moving(monkeypatch: pytest.MonkeyPatch, failure: Exception | None) -> None:
    def move(*_: Any) -> None:
        if failure is not None:
            raise failure

    monkeypatch.setattr("modelwright.kube.act.move_alias", move)


async def test_a_moved_alias_wakes_those_who_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _moving(monkeypatch, None)
    bench = Bench(making(READY, MOVE))
    bench.show(training_job())
    follower = Key("ModelDeployment", "ns", "d")
    bench.watches.set(follower, [AliasWatch("s3://bucket/x", "m", "champion")])
    await bench.look()
    assert bench.woken == [follower]


@pytest.mark.parametrize(
    ("failure", "result"),
    [
        (AliasMoved("it points elsewhere"), "conflict"),
        (StoreError("no answer"), "unavailable"),
        (StoreError("access denied", retryable=False), "rejected"),
    ],
)
async def test_an_alias_that_could_not_be_moved(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, result: str
) -> None:
    _moving(monkeypatch, failure)
    bench = Bench(making(READY, MOVE))
    bench.show(training_job())
    assert (await bench.look()).result == result


async def test_a_process_that_lost_its_lease_writes_nothing() -> None:
    bench = Bench(making(READY, Apply(JOB)))
    bench.show(training_job())

    def lost() -> None:
        raise LostError("gone")

    bench.api.guard = lost
    assert (await bench.look()).result == "lost"
    assert bench.api.writes == []


async def test_another_kind_has_another_planner() -> None:
    bench = Bench(making(READY))
    bench.show(of_kind("DriftPolicy", "p"))
    await bench.reconciler.reconcile(Key("DriftPolicy", "ns", "p"))
    assert bench.seen[0].object["kind"] == "DriftPolicy"


async def test_an_object_that_somebody_else_made_under_a_users_name_is_not_taken_over() -> None:
    service = child("Service", "a", "uid-a")
    bench = Bench(lambda observed: Plan(READY, (Apply(service, user_named=True),)))
    bench.show(training_job())
    theirs = bench.api.add({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"selector": {}}})
    await bench.look()
    assert bench.api.objects[Key("Service", "ns", "a")] == theirs
    rejection = bench.seen[-1].rejection
    assert rejection is not None
    assert "belongs to somebody else" in rejection.message


async def test_nor_is_one_that_belongs_to_another_object_of_ours() -> None:
    bench = Bench(lambda observed: Plan(READY, (Apply(child("Service", "a", "uid-a"), user_named=True),)))
    bench.show(training_job())
    bench.show(child("Service", "a", "uid-another"))
    await bench.look()
    assert bench.seen[-1].rejection is not None
    assert ("apply", "Service", "a") not in bench.api.writes


async def test_our_own_object_that_no_watch_has_shown_yet_is_applied_again() -> None:
    service = child("Service", "a", "uid-a")
    bench = Bench(lambda observed: Plan(READY, (Apply(service, user_named=True),)))
    bench.show(training_job())
    bench.api.add(service)
    await bench.look()
    assert ("apply", "Service", "a") in bench.api.writes
