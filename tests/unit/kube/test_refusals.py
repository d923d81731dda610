from typing import Any

import pytest

from modelwright.api.common import Status
from modelwright.kube import errors
from modelwright.kube.objects import Key
from modelwright.kube.reconcile import SETTLE_SECONDS
from modelwright.plan.actions import Apply, Event, Plan
from modelwright.plan.conditions import is_suspended
from modelwright.plan.observed import Alert, Observed
from tests.simulation.kstatus import violations
from tests.unit.kube.bench import JOB, KEY, READY, Bench, making
from tests.unit.kube.fake_api import child, training_job

SUSPENDED = {
    "type": "Suspended",
    "status": "True",
    "reason": "Suspended",
    "message": "held",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


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


async def test_a_webhook_that_does_not_answer_is_told_of_and_asked_again_soon_and_is_no_refusal_that_counts() -> None:
    def planner(observed: Observed) -> Plan:
        refused = observed.rejection
        return Plan({"said": "ready"} if refused is None else {"for": refused.unanswered}, (Apply(JOB),))

    bench = Bench(planner)
    bench.show(training_job())
    down = errors.WebhookDown("failed calling webhook", 500)
    bench.api.fail = lambda verb, kind, name: down if kind == "Job" else None
    waits, told = [], []
    for _ in range(10):
        await bench.look()
        told.append(bench.objects.get(KEY)["status"]["for"])
        # While its pause is not over, nothing is tried.
        wait = (await bench.look()).wake_after
        waits.append(wait)
        bench.clock.now += wait
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert told[:4] == [0, 1, 3, 7]
    assert bench.api.writes.count(("apply", "Job", "a-1")) == 10

    bench.api.fail = lambda verb, kind, name: errors.Rejected("no", 403) if kind == "Job" else None
    await bench.look()
    assert bench.seen[-1].rejection.unanswered is None
    assert (await bench.look()).wake_after == 30
    bench.clock.now += 30
    bench.api.fail = lambda verb, kind, name: None
    await bench.look()
    assert bench.objects.get(KEY)["status"] == {"said": "ready"}


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


def _refusing(bench: Bench, field: str) -> None:
    """Let the API server refuse every status with a field."""
    apply = bench.api.apply

    async def choosy(document: dict[str, Any], subresource: str | None = None) -> dict[str, Any]:
        if field in document.get("status", {}):
            raise errors.Rejected(f"status.{field}: Invalid value", 422)
        return await apply(document, subresource)

    bench.api.apply = choosy


async def test_a_status_that_is_refused_is_told_in_its_conditions_and_an_event_and_what_was_there_stays() -> None:
    bench = Bench(making({**READY, "restarts": 2, "bad": 1}, events=(Event("Normal", "Done", "done"),)))
    bench.show({**training_job(), "status": {"restarts": 1, "conditions": [SUSPENDED]}})
    _refusing(bench, "bad")
    waiting = bench.inbox.submit(KEY, [Alert("1", "t", {})])
    outcome = await bench.look()
    assert (outcome.result, outcome.retry) == ("rejected", True)
    found = bench.objects.get(KEY)
    assert found["status"]["restarts"] == 1
    said = {entry["type"]: entry for entry in found["status"]["conditions"]}
    assert sorted(said) == ["Ready", "Stalled"]
    assert (said["Ready"]["status"], said["Ready"]["reason"]) == ("False", "StatusRejected")
    assert "status.bad: Invalid value" in said["Ready"]["message"]
    assert violations({**found, "kind": "ModelDeployment"}) == []
    assert not waiting.done()
    assert bench.events.waiting() == 1

    written = len(bench.api.writes)
    assert (await bench.look()).retry
    assert len(bench.api.writes) == written
    assert bench.events.waiting() == 1

    bench.planner = making(READY)
    assert (await bench.look()).result == "written"
    assert bench.objects.get(KEY)["status"] == READY
    assert waiting.done()


@pytest.mark.parametrize("planned", ["True", "False"])
async def test_an_object_whose_last_status_is_refused_has_not_ended(planned: str) -> None:
    ended = {"type": "Succeeded", "status": planned, "reason": "Done", "message": "done"}
    bench = Bench(making({"conditions": [*READY["conditions"], ended], "bad": 1}))
    bench.show(training_job())
    _refusing(bench, "bad")
    await bench.look()
    found = bench.objects.get(KEY)
    assert violations(found) == []
    assert {entry["type"]: entry["status"] for entry in found["status"]["conditions"]}["Succeeded"] == "Unknown"


async def test_a_suspended_object_stays_so_when_its_status_is_refused() -> None:
    # Its Job is gone for that, and must not be taken for a lost one.
    bench = Bench(making({"conditions": [{**SUSPENDED, "type": "Ready", "status": "False"}, SUSPENDED], "bad": 1}))
    bench.show(training_job())
    _refusing(bench, "bad")
    await bench.look()
    assert is_suspended(Status.model_validate(bench.objects.get(KEY)["status"]).conditions)


async def test_a_status_of_which_nothing_is_accepted_is_at_least_an_event() -> None:
    bench = Bench(making(READY))
    bench.show(training_job())
    _refusing(bench, "conditions")
    outcome = await bench.look()
    assert (outcome.result, outcome.retry) == ("rejected", True)
    assert bench.events.waiting() == 1
