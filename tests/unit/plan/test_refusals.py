"""Pods that the API server refuses to a gang's Job are told of, with its words, and start when they may."""

from datetime import timedelta
from typing import Any

import pytest

from modelwright.api.trainingjob import Progress
from modelwright.kube import errors
from modelwright.plan.fleet import Fleet
from modelwright.plan.refusals import completed, newest
from modelwright.plan.times import stamp
from tests.simulation.client import SimClient
from tests.simulation.cluster import key_of
from tests.simulation.nodes import finish
from tests.simulation.one_job import RECIPE, Simulation
from tests.simulation.one_sweep import Simulation as Sweep
from tests.simulation.world import START
from tests.unit.plan.training_world import message, report, running

QUOTA = "exceeded quota: team, requested: cpu=2, used: cpu=3, limited: cpu=4"


def _refusing(sim: Simulation | Sweep, *, but: int = 0) -> None:
    """Let the cluster have only so many pods."""

    def policy(document: Any) -> str | None:
        full = len(sim.world.cluster.of_kind("Pod")) >= but
        return QUOTA if document["kind"] == "Pod" and full else None

    sim.world.cluster.admission.append(policy)


@pytest.mark.parametrize(("there", "missing"), [(0, 2), (1, 1)])
def test_pods_that_are_refused_are_told_of_with_the_words_of_who_refused_them(there: int, missing: int) -> None:
    sim = Simulation()
    _refusing(sim, but=there)
    sim.world.run(20)
    assert sim.ready == ("False", "Starting"), "that takes a moment, as where the last attempt's pods still leave"
    sim.world.run(20)
    assert sim.ready == ("False", "PodsRejected")
    assert message(sim) == f"{missing} of 2 pods are missing, for the cluster refuses them: {QUOTA}"
    told = len(sim.world.statuses[sim.key])
    sim.world.run(300)
    assert len(sim.world.statuses[sim.key]) == told, "it is said once, though it is tried again and again"
    assert sim.status["restarts"] == 0

    sim.world.cluster.admission.clear()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["restarts"] == 0


def test_a_sweep_whose_pods_are_refused_says_so() -> None:
    sim = Sweep()
    _refusing(sim)
    sim.world.run(40)
    assert sim.ready == ("False", "PodsRejected")
    assert QUOTA in sim.status["conditions"][0]["message"]
    sim.world.cluster.admission.clear()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_an_operator_that_may_not_read_events_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forbidden(*_: Any, **__: Any) -> Any:
        raise errors.Rejected("events is forbidden", 403)
        yield

    monkeypatch.setattr(SimClient, "list", forbidden)
    sim = Simulation()
    _refusing(sim)
    sim.world.run(40)
    assert sim.ready == ("False", "Starting")
    (job,) = sim.world.cluster.of_kind("Job")
    assert message(sim) == f"2 of 2 pods are missing: kubectl describe job {job['metadata']['name']} tells why"


def test_pods_that_are_made_in_time_are_no_matter_of_events() -> None:
    sim = Simulation(RECIPE)
    asked: list[str] = []
    sim.world.cluster.told = _Recorder(asked)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert asked == []


class _Recorder(list[Any]):
    """Events, and whether anybody has looked at them."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__()
        self._asked = asked

    def __iter__(self) -> Any:
        self._asked.append("looked")
        return super().__iter__()


def test_the_newest_refusal_counts_and_an_old_one_does_not() -> None:
    def event(seconds: int, text: str) -> dict[str, Any]:
        return {"metadata": {}, "message": text, "lastTimestamp": stamp(START + timedelta(seconds=seconds))}

    told = [
        event(0, 'Error creating: pods "a-1-0-x7k2p" is forbidden: first'),
        event(60, "Error creating: Internal error occurred: failed calling webhook: connection refused"),
        {"metadata": {}, "message": "without a time"},
    ]
    now = START + timedelta(seconds=61)
    assert newest(told[:1], "a-1", now) == "first"
    assert newest(told, "a-1", now) == "Internal error occurred: failed calling webhook: connection refused"
    assert newest(told, "a-1", START + timedelta(hours=1)) is None


LONG = "a-training-job-whose-name-leaves-no-room-for-more-d9df7-1"


@pytest.mark.parametrize(
    ("job", "text", "said"),
    [
        ("a-1", f'Error creating: pods "a-1-0-x7k2p" is forbidden: {QUOTA}', QUOTA),
        ("a-1", f'(combined from similar events): Error creating: pods "a-1-0-x7k2p" is forbidden: {QUOTA}', QUOTA),
        ("a-1", 'Error creating: Pod "a-1-0-x7k2p" is invalid: spec: must be less than 1', "spec: must be less than 1"),
        (
            "a-1",
            "Error creating: denied the request: Pod/ns/a-1-12-x7k2p was blocked",
            "denied the request: Pod/ns/a-1-* was blocked",
        ),
        (LONG, f"Error creating: no {LONG[:55]}-0-x7k2p here", f"no {LONG}-* here"),
    ],
)
def test_a_refusal_is_the_same_whichever_name_was_tried(job: str, text: str, said: str) -> None:
    assert newest([{"metadata": {}, "message": text, "lastTimestamp": stamp(START)}], job, START) == said


@pytest.mark.parametrize(
    ("listed", "indexes"), [(None, set()), ("", set()), ("1", {1}), ("0,2-4,11", {0, 2, 3, 4, 11}), ("0,1", {0, 1})]
)
def test_the_workers_that_are_done_are_read_as_kubernetes_lists_them(listed: str | None, indexes: set[int]) -> None:
    assert completed({"status": {"completedIndexes": listed}}) == indexes
    assert completed({}) == set()


def test_the_pod_of_a_worker_that_is_done_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody_asks(*_: Any, **__: Any) -> Any:
        raise AssertionError("events are asked for")
        yield

    monkeypatch.setattr(SimClient, "list", nobody_asks)
    sim = running(RECIPE)
    worker = sim.world.cluster.of_kind("Pod")[1]
    finish(sim.world.cluster, worker)
    sim.world.run(60)
    sim.world.cluster.remove(key_of(worker))
    for step in (1, 2):
        report(sim, progress=Progress(step=step, total_steps=1000))
    assert sim.status["progress"]["step"] == 2


def test_servers_whose_pods_are_refused_are_told_of_with_the_same_words() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": QUOTA}
    fleet = Fleet(1, {"metadata": {}, "status": {"conditions": [refused]}}, ())
    assert fleet.complaint == ("PodsRejected", f"the cluster refuses its pods: {QUOTA}")
