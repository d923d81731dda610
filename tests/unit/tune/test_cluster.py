import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.runtime.failure import RunError
from modelwright.runtime.tune import cluster


@pytest.mark.parametrize(
    ("nodes", "parallelism", "expected"),
    [
        ([2.0], 2, 1.0),
        ([2.0], 4, 0.5),
        ([8.0], 2, 4.0),
        ([2.0, 2.0, 2.0], 4, 1.0),
        ([4.0, 2.0], 3, 2.0),
        ([3.0], 2, 1.0),
        ([1.0], 3, 0.3333),
        ([0.0], 2, 1.0),
        ([0.0, 4.0], 1, 4.0),
    ],
)
def test_trials_share_the_nodes_and_none_is_split_between_two(
    nodes: list[float], parallelism: int, expected: float
) -> None:
    assert cluster.per_trial(nodes, parallelism) == expected


@given(nodes=st.lists(st.integers(1, 64).map(float), min_size=1, max_size=8), parallelism=st.integers(1, 40))
def test_as_many_trials_as_asked_for_fit_at_the_same_time(nodes: list[float], parallelism: int) -> None:
    share = cluster.per_trial(nodes, parallelism)

    assert sum(int(node / share + 1e-9) for node in nodes) >= parallelism


def alive(monkeypatch: pytest.MonkeyPatch, *counts: int, resources: dict[str, float] | None = None) -> list[float]:
    """Let Ray see so many nodes, one number after each pause; return the pauses made."""
    pauses: list[float] = []
    nodes = {"Alive": True, "Resources": resources or {"CPU": 2.0}}
    monkeypatch.setattr(
        cluster.ray,
        "nodes",
        lambda: [*[nodes] * counts[min(len(pauses), len(counts) - 1)], {"Alive": False, "Resources": {}}],
    )
    return pauses


def test_the_search_waits_for_all_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = alive(monkeypatch, 1, 1, 2)
    cluster.wait_for_nodes(2, pause=pauses.append)

    assert len(pauses) == 2


def test_pods_that_never_come_are_a_failure_that_another_attempt_may_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = alive(monkeypatch, 1)
    with pytest.raises(RunError) as caught:
        cluster.wait_for_nodes(3, patience=5, pause=pauses.append)

    assert (caught.value.reason, caught.value.retryable) == ("WorkersMissing", True)
    assert "1 of 3 pods" in caught.value.message


def test_a_pod_that_waits_for_a_node_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = alive(monkeypatch, *[1] * 900, 2)
    cluster.wait_for_nodes(2, patience=5, pause=pauses.append, placed=lambda: len(pauses) >= 897)

    assert len(pauses) == 900


def test_a_pod_that_has_its_node_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = alive(monkeypatch, 1)
    with pytest.raises(RunError, match="1 of 2 pods joined"):
        cluster.wait_for_nodes(2, patience=5, pause=pauses.append, placed=lambda: len(pauses) >= 900)

    assert len(pauses) == 899 + 5


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"CPU": 4.0}, cluster.Share(2.0, 0.0)),
        ({"CPU": 4.0, "GPU": 1.0}, cluster.Share(2.0, 0.5)),
        ({"CPU": 16.0, "GPU": 8.0}, cluster.Share(8.0, 1.0)),
    ],
)
def test_a_trial_gets_its_share_of_processors_and_at_most_one_gpu(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, float], expected: cluster.Share
) -> None:
    alive(monkeypatch, 1, resources=resources)

    assert cluster.share_of(2) == expected
