"""Gangs are let in one decision after the other, on what the cluster says alone."""

import asyncio
import contextlib
from decimal import Decimal
from typing import Any

from modelwright.kube import admission, errors
from modelwright.kube.admission import Admission
from modelwright.kube.objects import Key
from modelwright.plan.quotas import Quota
from tests.unit.kube.bench import READY, Bench, making
from tests.unit.kube.fake_api import child, training_job

CPUS = (Quota("cpus", {"cpu": Decimal(2)}),)
WORKERS = {"command": ["train"], "resources": {"requests": {"cpu": "1"}}}

_COMPLETE = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z"}


class World:
    """Some TrainingJobs with their Jobs, and an admission over them."""

    def __init__(self, *quotas: Quota) -> None:
        self.bench = Bench(making(READY))
        self.admission = Admission(self.bench.objects, self.bench.hands, quotas)
        self.bench.objects.subscribe(self.admission)

    def add(self, name: str, *, held: bool = True, labels: dict[str, str] | None = None, **spec: Any) -> None:
        job = training_job(name)
        job["metadata"] |= {"creationTimestamp": f"2026-01-01T00:00:0{len(self.bench.api.objects)}Z"}
        job["metadata"]["labels"] = labels or {}
        job["spec"] = {"workers": WORKERS, **spec}
        self.bench.show(job)
        self.bench.show(child("Job", f"{name}-1", f"uid-{name}", spec={"suspend": held}))

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
