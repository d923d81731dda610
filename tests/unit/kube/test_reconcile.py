import logging
from typing import Any

import pytest

from modelwright.api.run import TrainingReport
from modelwright.kube import errors
from modelwright.kube.lease import LostError
from modelwright.kube.objects import Key
from modelwright.kube.reconcile import CONFIRM_SECONDS, SETTLE_SECONDS
from modelwright.kube.turns import Busy
from modelwright.plan.actions import Apply, Ask, Event, ObjectWatch, Plan
from modelwright.plan.observed import Alert, Observed
from modelwright.plan.questions import ReadDocument, ReadLive, ReadObject, SecretExists, Unavailable
from tests.unit.kube.bench import JOB, KEY, READY, STORE, Bench, making
from tests.unit.kube.fake_api import count, of_kind, training_job


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
    assert bench.inbox.last_report(KEY, "uid-a") is None
    assert bench.watches.holders(ObjectWatch("TrainingJob", "ns", "b")) == ()


async def test_what_is_known_of_an_object_goes_with_it() -> None:
    bench = Bench(making(READY))
    bench.show(training_job())
    await bench.look()
    bench.inbox.report(KEY, "uid-a", TrainingReport(attempt=1))
    waiting = bench.inbox.submit(KEY, [Alert("1", "t", {})])
    bench.objects.remove(KEY, "uid-a")
    assert (await bench.look()).result == "gone"
    assert bench.inbox.last_report(KEY, "uid-a") is None
    assert waiting.done()


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


async def test_who_has_no_turn_at_a_store_comes_again_and_says_nothing_of_it() -> None:
    bench = Bench(lambda observed: Plan(READY) if observed.answers else Ask((ReadDocument(STORE, "x.json"),)))
    bench.show(training_job())

    def busy(*_: Any) -> None:
        raise Busy

    bench.store.read_json = busy
    outcome = await bench.look()
    assert (outcome.result, outcome.retry) == ("busy", True)
    assert bench.api.writes == []


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


async def test_the_pause_that_an_api_server_asks_for_reaches_the_queue() -> None:
    bench = Bench(making(READY, Apply(JOB)))
    bench.show(training_job())
    bench.api.fail = lambda verb, kind, name: errors.Unavailable("429", 429, 7.0) if kind == "Job" else None
    assert (await bench.look()).retry_after == 7.0


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


async def test_a_status_that_was_planned_on_an_old_view_is_not_written_over_a_newer_one() -> None:
    bench = Bench(making(READY))
    shown = bench.show(training_job())
    newer = {"conditions": [{"type": "Ready", "status": "False", "reason": "Newer", "message": "by the next leader"}]}
    bench.api.add({**shown, "status": newer})
    outcome = await bench.look()
    assert (outcome.result, outcome.retry) == ("conflict", True)
    assert bench.api.objects[KEY]["status"] == newer


async def test_the_status_of_an_object_that_is_gone_is_no_error() -> None:
    bench = Bench(making(READY))
    bench.show(training_job())
    del bench.api.objects[KEY]
    await bench.look()
    assert bench.objects.get(KEY) is None


async def test_events_and_watches_of_a_plan_are_taken_over() -> None:
    watch = ObjectWatch("ModelDeployment", "ns", "d")
    bench = Bench(making(READY, events=(Event("Normal", "Started", "it runs"),), watches=(watch,)))
    bench.show(training_job())
    await bench.look()
    assert bench.watches.holders(watch) == (KEY,)
    assert bench.events.waiting() == 1


async def test_another_kind_has_another_planner() -> None:
    bench = Bench(making(READY))
    bench.show(of_kind("DriftPolicy", "p"))
    await bench.reconciler.reconcile(Key("DriftPolicy", "ns", "p"))
    assert bench.seen[0].object["kind"] == "DriftPolicy"
