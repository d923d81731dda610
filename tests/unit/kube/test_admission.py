"""Gangs are let in one decision after the other, on what the cluster says alone."""

import asyncio
import contextlib
from decimal import Decimal
from typing import Any

import pytest

from modelwright.kube import admission, errors
from modelwright.kube.admission import Admission
from modelwright.kube.objects import Key
from modelwright.kube.refusals import Refusals
from modelwright.plan.conditions import Reason, State, Verdict
from modelwright.plan.quotas import Quota
from modelwright.plan.rejections import PATIENCE
from tests.unit.kube.bench import READY, Bench, making
from tests.unit.kube.fake_api import child, training_job

CPUS = (Quota("cpus", {"cpu": Decimal(2)}),)
WORKERS = {"command": ["train"], "resources": {"requests": {"cpu": "1"}}}

_COMPLETE = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z"}


class World:
    """Some TrainingJobs with their Jobs, and an admission over them."""

    def __init__(self, *quotas: Quota) -> None:
        self.bench = Bench(making(READY))
        self.admission = Admission(self.bench.objects, self.bench.hands, quotas, self.bench.clock)
        self.bench.objects.subscribe(self.admission)

    def add(self, name: str, *, held: bool = True, labels: dict[str, str] | None = None, **spec: Any) -> None:
        job = training_job(name)
        job["metadata"] |= {"creationTimestamp": f"2026-01-01T00:00:0{len(self.bench.api.objects)}Z"}
        job["metadata"]["labels"] = labels or {}
        job["spec"] = {"workers": WORKERS, **spec}
        self.bench.show(job)
        workers = job["spec"]["workers"]
        template = {"spec": {"containers": [{"name": "worker", "resources": workers.get("resources", {})}]}}
        made = {"suspend": held, "parallelism": workers.get("replicas", 1), "template": template}
        made_job = child("Job", f"{name}-1", f"uid-{name}", spec=made)
        made_job["metadata"]["labels"] |= labels or {}
        self.bench.show(made_job)

    def change(self, name: str, **fields: Any) -> None:
        found = self.bench.api.objects[Key("TrainingJob", "ns", name)]
        self.bench.show({**found, **fields})

    def running(self) -> list[str]:
        jobs = [job for key, job in self.bench.api.objects.items() if key.kind == "Job"]
        return sorted(job["metadata"]["name"] for job in jobs if not job["spec"]["suspend"])

    def metrics(self) -> dict[str, float]:
        return {family.name: family.samples[0].value for family in self.admission.metrics()}


async def test_the_oldest_come_in_until_the_quota_is_full() -> None:
    world = World(*CPUS)
    for name in "abc":
        world.add(name)
    assert await world.admission.decide()
    assert world.running() == ["a-1", "b-1"]
    assert world.metrics() == {
        "modelwright_quota_limit": 2,
        "modelwright_quota_used": 2,
        "modelwright_quota_waiting_gangs": 1,
    }
    await world.admission.decide()
    assert world.running() == ["a-1", "b-1"]


async def test_an_end_makes_room() -> None:
    world = World(*CPUS)
    for name in "abc":
        world.add(name)
    await world.admission.decide()
    done = world.bench.api.objects[Key("Job", "ns", "a-1")]
    world.bench.show({**done, "status": {"conditions": [_COMPLETE]}})
    await world.admission.decide()
    assert "c-1" in world.running()


async def test_what_its_user_holds_and_what_is_kueues_is_left_alone() -> None:
    world = World(*CPUS)
    world.add("a", suspend=True)
    world.add("b", labels={"kueue.x-k8s.io/queue-name": "gpus"})
    world.add("c", workers={**WORKERS, "replicas": 2})
    await world.admission.decide()
    assert world.running() == ["c-1"]


async def test_the_order_follows_a_priority_that_is_changed_while_a_gang_waits() -> None:
    world = World(*CPUS)
    world.add("a", workers={**WORKERS, "replicas": 2})
    world.add("b", workers={**WORKERS, "replicas": 2}, priority=5)
    await world.admission.decide()
    assert world.running() == ["b-1"]


async def test_a_write_that_fails_is_tried_again_and_a_spec_that_is_invalid_counts_for_nothing() -> None:
    world = World(*CPUS)
    world.add("a", workers={"replicas": -1})
    world.add("b")
    world.bench.api.fail = lambda verb, kind, name: errors.Unavailable("503", 503) if verb == "patch" else None
    assert not await world.admission.decide()
    assert world.running() == []
    world.bench.api.fail = lambda verb, kind, name: None
    assert await world.admission.decide()
    assert world.running() == ["b-1"]


async def test_one_that_may_be_in_keeps_its_room_from_an_older_one(monkeypatch: Any) -> None:
    world = World(*CPUS)
    world.add("older", workers={**WORKERS, "replicas": 2}, suspend=True)
    world.add("younger", workers={**WORKERS, "replicas": 2})
    patch = world.bench.api.patch

    async def unanswered(*arguments: Any) -> Any:
        await patch(*arguments)
        raise errors.Unavailable("504", 504)

    monkeypatch.setattr(world.bench.api, "patch", unanswered)
    assert not await world.admission.decide()
    older = world.bench.api.objects[Key("TrainingJob", "ns", "older")]
    world.bench.show({**older, "spec": {**older["spec"], "suspend": False}})
    monkeypatch.undo()
    assert await world.admission.decide()
    assert world.running() == ["younger-1"]


async def test_what_runs_has_its_room_whatever_has_become_of_its_owner() -> None:
    world = World(*CPUS)
    world.add("a", held=False)
    world.add("b", held=False, workers={**WORKERS, "replicas": -1})
    world.bench.api.objects[Key("Job", "ns", "b-1")]["spec"]["parallelism"] = 1
    world.bench.show(world.bench.api.objects[Key("Job", "ns", "b-1")])
    world.add("c")
    world.bench.objects.remove(Key("TrainingJob", "ns", "a"), "uid-a")
    await world.admission.decide()
    assert world.running() == ["a-1", "b-1"]
    assert world.metrics()["modelwright_quota_used"] == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:01:00Z"}},
        {"status": {"completionTime": "2026-01-01T00:01:00Z"}},
        {"spec": {"workers": WORKERS, "suspend": True}},
    ],
)
async def test_who_is_not_to_go_on_is_not_let_in(fields: dict[str, Any]) -> None:
    world = World(*CPUS)
    world.add("a")
    found = world.bench.api.objects[Key("TrainingJob", "ns", "a")]
    world.change("a", **{**fields, "metadata": {**found["metadata"], **fields.get("metadata", {})}})
    await world.admission.decide()
    assert world.running() == []
    world.add("b")
    world.bench.objects.remove(Key("TrainingJob", "ns", "b"), "uid-b")
    await world.admission.decide()
    assert world.running() == []


async def test_a_job_of_another_namespace_says_nothing_of_a_gang_that_waits() -> None:
    world = World(*CPUS)
    world.add("a", held=False, workers={**WORKERS, "replicas": 2})
    world.add("b", workers={**WORKERS, "replicas": 2})
    await world.admission.decide()
    # It costs nothing, runs, and carries the UID of another's owner.
    forged = child("Job", "forged", "uid-b", spec={"suspend": False, "parallelism": 0, "template": {"spec": {}}})
    forged["metadata"] |= {"namespace": "elsewhere", "uid": "uid-forged"}
    world.bench.show(forged)
    world.admission.take_over()
    for _ in range(2):
        await world.admission.decide()
    assert world.running() == ["a-1", "forged"]


def _status(reason: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "False", "reason": reason, "message": ""}
    return {"startTime": "2026-01-01T00:00:10Z", "conditions": [ready]}


@pytest.mark.parametrize(("reason", "running"), [("Restarting", ["a-2"]), ("SecretNotFound", ["b-1"])])
@pytest.mark.parametrize("looks", [0, 1])
async def test_a_gang_that_failed_goes_on_in_its_room_unless_it_waits_for_somebody(
    reason: str, running: list[str], looks: int
) -> None:
    world = World(*CPUS)
    world.add("b", workers={**WORKERS, "replicas": 2})
    world.add("a", held=False, workers={**WORKERS, "replicas": 2})
    await world.admission.decide()
    failed = world.bench.api.objects[Key("Job", "ns", "a-1")]
    failed["metadata"]["labels"]["modelwright.dev/attempt"] = "1"
    world.bench.show({**failed, "status": {"conditions": [{**_COMPLETE, "type": "Failed"}]}})
    world.change("a", status=_status(reason))
    for _ in range(looks if running == ["a-2"] else 1):
        await world.admission.decide()
    successor = child("Job", "a-2", "uid-a", spec={**failed["spec"], "suspend": True})
    successor["metadata"]["labels"]["modelwright.dev/attempt"] = "2"
    world.bench.show(successor)
    await world.admission.decide()
    assert [name for name in world.running() if name != "a-1"] == running
    await world.admission.decide()
    assert world.metrics()["modelwright_quota_used"] == 2


def _lost(*behind: str, reason: str = "Restarting") -> World:
    """Return a world in which the gang of a has lost its Job, and others wait; all take the whole quota."""
    world = World(*CPUS)
    whole = {**WORKERS, "replicas": 2}
    world.add("a", held=False, workers=whole)
    world.change("a", status=_status(reason))
    for name in behind:
        world.add(name, workers=whole, priority=9)
    return world


def _drop_job(world: World, name: str) -> None:
    del world.bench.api.objects[Key("Job", "ns", name)]
    world.bench.objects.remove(Key("Job", "ns", name), f"uid-{name}")


def _show_next_job(world: World, **fields: Any) -> None:
    template = {"spec": {"containers": [{"name": "worker", "resources": WORKERS["resources"]}]}}
    spec = {"suspend": True, "parallelism": 2, "template": template}
    world.bench.show({**child("Job", "a-2", "uid-a", spec=spec), **fields})


async def test_a_gang_whose_job_is_gone_keeps_its_room_and_is_counted_once_when_the_next_one_comes() -> None:
    world = _lost("b")
    await world.admission.decide()
    _drop_job(world, "a-1")
    for _ in range(2):
        await world.admission.decide()
        assert world.running() == []
        assert world.metrics()["modelwright_quota_used"] == 2
    _show_next_job(world)
    assert world.metrics()["modelwright_quota_used"] == 0, "it is not in yet"
    await world.admission.decide()
    assert world.running() == ["a-2"]
    assert world.metrics()["modelwright_quota_used"] == 2


async def test_one_that_is_lost_as_soon_as_it_was_let_in_keeps_its_room() -> None:
    world = World(*CPUS)
    for name in "ab":
        world.add(name, workers={**WORKERS, "replicas": 2})
    await world.admission.decide()
    assert world.running() == ["a-1"]
    world.change("a", status=_status("Unschedulable"))
    _drop_job(world, "a-1")
    await world.admission.decide()
    assert world.running() == []


@pytest.mark.parametrize("reason", ["SecretNotFound", "StorageUnavailable"])
async def test_one_that_comes_to_wait_for_somebody_gives_its_room_back_for_good(reason: str) -> None:
    world = _lost("b")
    await world.admission.decide()
    _drop_job(world, "a-1")
    await world.admission.decide()
    world.change("a", status=_status(reason))
    await world.admission.decide()
    assert world.running() == ["b-1"]
    world.change("a", status=_status("Restarting"))
    _show_next_job(world)
    await world.admission.decide()
    assert world.running() == ["b-1"]


async def test_one_that_is_gone_gives_its_room_back() -> None:
    world = _lost("b")
    await world.admission.decide()
    _drop_job(world, "a-1")
    world.bench.objects.remove(Key("TrainingJob", "ns", "a"), "uid-a")
    await world.admission.decide()
    assert world.running() == ["b-1"]


@pytest.mark.parametrize(
    "fields", [{"status": {"conditions": [_COMPLETE]}}, {"labels": {"kueue.x-k8s.io/queue-name": "default"}}]
)
async def test_one_that_is_done_or_has_become_kueues_gives_its_room_back(fields: dict[str, Any]) -> None:
    world = _lost("b", reason="Training")
    await world.admission.decide()
    found = world.bench.api.objects[Key("Job", "ns", "a-1")]
    labels = {**found["metadata"]["labels"], **fields.pop("labels", {})}
    world.bench.show({**found, "metadata": {**found["metadata"], "labels": labels}, **fields})
    await world.admission.decide()
    assert "b-1" in world.running()


async def test_a_new_process_keeps_the_room_of_those_that_start_again_where_nobody_has_it() -> None:
    world = _lost("b")
    _drop_job(world, "a-1")
    world.admission.take_over()
    await world.admission.decide()
    assert world.running() == []
    _show_next_job(world)
    await world.admission.decide()
    assert world.running() == ["a-2"]


async def test_a_new_process_gives_nobody_room_that_is_taken() -> None:
    world = _lost("c")
    world.add("b", held=False)
    _drop_job(world, "a-1")
    world.admission.take_over()
    _show_next_job(world)
    await world.admission.decide()
    assert world.running() == ["b-1"]


async def test_one_of_whom_nothing_has_been_said_yet_keeps_no_room_from_others() -> None:
    world = World(*CPUS)
    world.bench.show(training_job("never-seen"))
    world.admission.take_over()
    world.add("b", workers={**WORKERS, "replicas": 2})
    await world.admission.decide()
    assert world.running() == ["b-1"]


async def test_a_job_that_gives_up_makes_room(monkeypatch: Any) -> None:
    monkeypatch.setattr(admission, "SETTLE_SECONDS", 0.0)
    world = World(*CPUS)
    world.add("a", held=False, workers={**WORKERS, "replicas": 2})
    failed = world.bench.api.objects[Key("Job", "ns", "a-1")]
    world.bench.show({**failed, "status": {"conditions": [{**_COMPLETE, "type": "Failed"}]}})
    world.change("a", status=_status("Training"))
    world.add("b")
    world.admission.take_over()
    task = asyncio.create_task(world.admission.run())
    await asyncio.sleep(0.05)
    assert world.running() == ["a-1"]
    found = world.bench.api.objects[Key("TrainingJob", "ns", "a")]
    ended = {**_status("RestartsExhausted"), "completionTime": "2026-01-01T00:01:00Z"}
    key = Key("TrainingJob", "ns", "a")
    world.bench.objects.put(world.bench.api.add({**found, "status": ended}), key)
    await asyncio.sleep(0.05)
    assert "b-1" in world.running()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_one_that_the_api_server_refuses_keeps_nobody_waiting_and_is_tried_again_later() -> None:
    world = World(*CPUS)
    world.add("a", workers={**WORKERS, "replicas": 2})
    world.add("b", workers={**WORKERS, "replicas": 2})
    refusal = errors.Rejected("denied by a webhook", 403)
    world.bench.api.fail = lambda verb, kind, name: refusal if (verb, name) == ("patch", "a-1") else None
    assert await world.admission.decide()
    assert await world.admission.decide()
    assert world.running() == ["b-1"]
    assert [call for call in world.bench.api.writes if call[2] == "a-1"] == [("patch", "Job", "a-1")]
    world.bench.clock.now += admission.REFUSED_SECONDS
    world.bench.api.fail = lambda verb, kind, name: None
    done = world.bench.api.objects[Key("Job", "ns", "b-1")]
    world.bench.show({**done, "status": {"conditions": [_COMPLETE]}})
    assert await world.admission.decide()
    assert "a-1" in world.running()


async def test_a_webhook_that_does_not_answer_costs_nobody_room_but_for_ever() -> None:
    refusals = Refusals()
    world = World(*CPUS)
    world.admission = Admission(world.bench.objects, world.bench.hands, CPUS, world.bench.clock, refusals)
    for name in "ab":
        world.add(name, workers={**WORKERS, "replicas": 2})
    down = errors.WebhookDown("failed calling webhook", 500)
    job = world.bench.api.objects[Key("Job", "ns", "a-1")]

    def answers(*, of: str) -> None:
        world.bench.api.fail = lambda verb, kind, name: down if (verb, name) == ("patch", of) else None

    answers(of="a-1")
    for _ in range(2):
        assert not await world.admission.decide(), "it is tried again soon"
        assert world.running() == []
        assert refusals.of([job]) == Verdict(State.RECONCILING, Reason.WEBHOOK_UNAVAILABLE, "failed calling webhook")
        world.bench.clock.now += PATIENCE / 2
    assert await world.admission.decide()
    assert refusals.of([job]) == Verdict(State.STALLED, Reason.CHILD_REJECTED, "failed calling webhook")
    assert await world.admission.decide()
    assert world.running() == ["b-1"]


async def test_a_webhook_that_was_down_before_is_waited_for_anew() -> None:
    world = World(*CPUS)
    for name in "ab":
        world.add(name, workers={**WORKERS, "replicas": 2})
    down = errors.WebhookDown("failed calling webhook", 500)
    for fate in (down, None):
        world.bench.api.fail = lambda verb, kind, name, fate=fate: fate if verb == "patch" else None
        await world.admission.decide()
    assert world.running() == ["a-1"]
    world.bench.clock.now += PATIENCE
    job = world.bench.objects.get(Key("Job", "ns", "a-1"))
    world.bench.show({**job, "spec": {**job["spec"], "suspend": True}})
    for fate in (down, None):
        world.bench.api.fail = lambda verb, kind, name, fate=fate: fate if verb == "patch" else None
        await world.admission.decide()
    assert world.running() == ["a-1"]


async def test_only_what_has_changed_is_read_again(monkeypatch: Any) -> None:
    world = World(*CPUS)
    for name in "abc":
        world.add(name)
    await world.admission.decide()
    await world.admission.decide()
    reads: list[Key] = []
    get = world.bench.objects.get
    monkeypatch.setattr(world.bench.objects, "get", lambda key: (reads.append(key), get(key))[1])
    await world.admission.decide()
    world.admission.metrics()
    assert reads == []
    world.change("c", spec={"workers": WORKERS, "priority": 3})
    await world.admission.decide()
    assert {key.name for key in reads} == {"c", "c-1"}


async def test_what_a_reconcile_says_of_its_own_object_is_no_reason_to_decide(monkeypatch: Any) -> None:
    monkeypatch.setattr(admission, "SETTLE_SECONDS", 0.0)
    world = World(*CPUS)
    decided: list[None] = []
    decide = world.admission.decide
    monkeypatch.setattr(world.admission, "decide", lambda: (decided.append(None), decide())[1])
    task = asyncio.create_task(world.admission.run())
    await asyncio.sleep(0.01)
    key = Key("TrainingJob", "ns", "a")
    world.admission(key, None, key)
    await asyncio.sleep(0.01)
    assert len(decided) == 1
    world.admission(key, None, None)
    await asyncio.sleep(0.01)
    assert len(decided) == 2
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_change_leads_to_a_decision(monkeypatch: Any) -> None:
    monkeypatch.setattr(admission, "SETTLE_SECONDS", 0.0)
    world = World(*CPUS)
    task = asyncio.create_task(world.admission.run())
    await asyncio.sleep(0.01)
    world.add("a")
    await asyncio.sleep(0.05)
    assert world.running() == ["a-1"]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_without_quotas_nothing_is_looked_at() -> None:
    world = World()
    world.add("a")
    task = asyncio.create_task(world.admission.run())
    await asyncio.sleep(0.01)
    assert world.running() == []
    assert world.metrics() == {}
    assert not task.done()
    task.cancel()


async def test_who_may_not_start_is_told_why_once_and_as_long_as_it_waits() -> None:
    woken: list[Key] = []
    refusals = Refusals(woken.append)
    world = World(*CPUS)
    world.admission = Admission(world.bench.objects, world.bench.hands, CPUS, world.bench.clock, refusals)
    world.add("a")
    refused = errors.Rejected("denied by policy", 403)
    world.bench.api.fail = lambda verb, kind, name: refused if verb == "patch" else None
    job = world.bench.api.objects[Key("Job", "ns", "a-1")]
    for _ in range(2):
        assert await world.admission.decide()
        world.bench.clock.now += admission.REFUSED_SECONDS + 1
    assert woken == [Key("TrainingJob", "ns", "a")]
    assert refusals.of([job]) == Verdict(State.STALLED, Reason.CHILD_REJECTED, "denied by policy")
    world.bench.api.fail = lambda verb, kind, name: None
    await world.admission.decide()
    await world.admission.decide()
    assert world.running() == ["a-1"]
    assert refusals.of([job]) is None
