"""Which faults there are, when, and what they hit."""

import subprocess
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.bench import faults
from e2e.bench.faults import Fault, Hit, Kind, hit, schedule
from e2e.support.resources import Object, Resources


def test_faults_alternate_and_begin_at_once() -> None:
    found = schedule(240, 60, 2, seed=0)
    assert [(fault.after, fault.kind) for fault in found] == [
        (0, Kind.PROCESS),
        (60, Kind.POD),
        (120, Kind.PROCESS),
        (180, Kind.POD),
    ]


def test_a_node_is_lost_only_where_that_is_asked_for() -> None:
    assert Kind.NODE not in {fault.kind for fault in schedule(3600, 60, 2, seed=0)}
    assert {fault.kind for fault in schedule(600, 60, 2, seed=0, kinds=[Kind.NODE])} == {Kind.NODE}


@given(st.integers(0, 2**32), st.integers(1, 8), st.floats(1, 3600), st.floats(1, 600))
def test_a_seed_makes_the_same_faults_for_everybody(seed: int, replicas: int, seconds: float, every: float) -> None:
    found = schedule(seconds, every, replicas, seed)
    assert found == schedule(seconds, every, replicas, seed)
    assert all(fault.after < max(seconds, every) and 0 <= fault.rank < replicas for fault in found)


def test_another_seed_hits_other_workers() -> None:
    assert {tuple(fault.rank for fault in schedule(600, 60, 2, seed)) for seed in range(5)} != {(0,) * 10}
    assert schedule(600, 60, 2, 1) != schedule(600, 60, 2, 2)


def pod(index: int, phase: str = "Running", **metadata: Any) -> Object:
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    return {"metadata": {"name": f"pod-{index}", "labels": labels, **metadata}, "status": {"phase": phase}}


class Cluster:
    """A namespace with pods, and what was done to them."""

    def __init__(self, *pods: Object, killed: str = "") -> None:
        self.namespace = "ns"
        self.kubectl = self
        self.deleted: list[str] = []
        self._pods = pods
        self._killed = killed

    def list(self, kind: str) -> list[Object]:
        assert kind == "pods"
        return [*self._pods]

    def run(self, *words: str) -> None:
        self.deleted += [word for word in words if word.startswith("pod-")]

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert words[1] == "pod-1"
        return subprocess.CompletedProcess(words, 0, self._killed)


def struck(cluster: Cluster, kind: Kind, rank: int = 1) -> "faults.Hit | None":
    return hit(cast("Resources", cluster), Fault(0, kind, rank))


@pytest.mark.parametrize(
    ("kind", "deleted"), [(Kind.POD, ["pod-1"]), (Kind.HEAD, ["pod-0"]), (Kind.GANG, ["pod-0", "pod-1"])]
)
def test_a_fault_takes_the_pods_that_it_means(kind: Kind, deleted: list[str]) -> None:
    cluster = Cluster(pod(0), pod(1))
    assert struck(cluster, kind) is not None
    assert cluster.deleted == deleted


def test_a_node_is_lost_once_and_no_pod_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults.second_node, "lose", lambda _: 1700000002.5)
    cluster = Cluster(pod(0), pod(1))
    assert struck(cluster, Kind.NODE) == Hit(Fault(0, Kind.NODE, 1), 1700000002.5)
    assert cluster.deleted == []


@pytest.fixture(params=[pod(1, "Failed"), pod(1, deletionTimestamp="2026-11-23T12:00:00Z")])
def gone(request: pytest.FixtureRequest) -> Object:
    return dict(request.param)


@pytest.mark.parametrize("kind", [Kind.POD, Kind.PROCESS])
def test_nothing_is_hit_where_the_worker_is_gone_already(kind: Kind, gone: Object) -> None:
    cluster = Cluster(pod(0), gone)
    assert struck(cluster, kind) is None
    assert cluster.deleted == []


def test_a_process_is_hit_at_the_time_that_its_pod_says() -> None:
    found = struck(Cluster(pod(0), pod(1), killed="1700000001.5\n1700000001.6\n"), Kind.PROCESS)
    assert found is not None
    assert found.at == 1700000001.5


def test_a_pod_without_a_training_process_has_nothing_to_kill() -> None:
    assert struck(Cluster(pod(0), pod(1)), Kind.PROCESS) is None
