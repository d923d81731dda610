from typing import Any

import pytest

from modelwright.kube import errors
from modelwright.kube.lease import LostError
from modelwright.kube.objects import Key
from modelwright.kube.reconcile import SETTLE_SECONDS
from modelwright.plan.actions import Action, AliasWatch, Apply, CreateSecret, Delete, MoveAlias, Patch, Plan, Ref
from modelwright.registry.errors import AliasMoved, StoreError
from tests.unit.kube.bench import JOB, READY, STORE, Bench, making
from tests.unit.kube.fake_api import child, training_job


async def test_deleting_what_is_gone_is_done() -> None:
    bench = Bench(making(READY, Delete(Ref("batch/v1", "Job", "ns", "a-1", "uid-a-1"))))
    bench.show(training_job())
    bench.objects.put({**JOB, "metadata": {**JOB["metadata"], "uid": "uid-a-1", "resourceVersion": "1"}})
    assert (await bench.look()).result == "written"
    assert bench.objects.get(Key("Job", "ns", "a-1")) is None


async def test_a_delete_that_meets_a_conflict_is_tried_again_and_nothing_counts_as_gone() -> None:
    bench = Bench(making(READY, Delete(Ref("batch/v1", "Job", "ns", "a-1", "uid-a-1"))))
    bench.show(training_job())
    bench.objects.put(bench.api.add({**JOB, "metadata": {**JOB["metadata"], "uid": "uid-a-1"}}))
    bench.api.fail = lambda verb, kind, name: errors.Conflict("409", 409) if verb == "delete" else None
    outcome = await bench.look()
    assert (outcome.result, outcome.retry) == ("conflict", True)
    assert bench.objects.get(Key("Job", "ns", "a-1")) is not None
    bench.api.fail = lambda verb, kind, name: None
    assert (await bench.look()).result == "written"
    assert bench.api.objects.get(Key("Job", "ns", "a-1")) is None


async def test_a_successor_of_what_is_to_be_deleted_is_spared() -> None:
    bench = Bench(making(READY, Delete(Ref("apps/v1", "Deployment", "ns", "a", "old"))))
    bench.show(training_job())
    bench.api.add(child("Deployment", "a", "uid-a"))
    assert (await bench.look()).result == "conflict"
    assert Key("Deployment", "ns", "a") in bench.api.objects


async def test_patching_what_is_gone_is_done_and_the_plan_is_made_anew() -> None:
    patch = Patch(Ref("batch/v1", "Job", "ns", "a-1", "uid-a-1"), {"spec": {"suspend": False}})
    bench = Bench(lambda observed: Plan(READY, (patch,) if observed.child("Job") else ()))
    bench.show(training_job())
    bench.objects.put(bench.api.add(JOB))
    del bench.api.objects[Key("Job", "ns", "a-1")]
    outcome = await bench.look()
    assert (outcome.result, outcome.wake_after) == ("written", SETTLE_SECONDS)
    assert bench.objects.get(Key("Job", "ns", "a-1")) is None
    assert [observed.rejection for observed in bench.seen] == [None]
    assert (await bench.look()).result == "unchanged"


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


@pytest.mark.parametrize(
    "action", [Apply(JOB), MOVE, CreateSecret({**JOB, "kind": "Secret"}, ("token",))], ids=["apply", "move", "create"]
)
async def test_a_process_that_lost_its_lease_writes_nothing(monkeypatch: pytest.MonkeyPatch, action: Action) -> None:
    _moving(monkeypatch, KeyError("it went on"))
    bench = Bench(making(READY, action))
    bench.show(training_job())

    def lost() -> None:
        raise LostError("gone")

    bench.api.guard = lost
    assert (await bench.look()).result == "lost"
    assert bench.api.writes == []


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
