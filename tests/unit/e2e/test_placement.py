"""A gang on two nodes is the same gang, and may be on one node when the other is lost."""

from typing import Any

import pytest

from e2e.bench import contenders
from e2e.bench.contenders import Setting
from e2e.cluster.settings import NODE_NAME, SECOND_NODE_NAME
from e2e.scenarios import placement
from modelwright.api.kinds import KINDS

SETTING = Setting("s3://bucket/rows.parquet", "s3://bucket/bench", "http://s3:7070", "runtime:1")
SPEC = next(kind.spec for kind in KINDS if kind.kind == "TrainingJob")


@pytest.fixture(autouse=True)
def pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement.runtime, "pause_image", lambda: "localhost/modelwright/pause:0")


def placed(name: str) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Return the labels and the spec of the pods that a contender asks for, and their tolerations."""
    made = contenders.make(name, SETTING, "a")
    spec = placement.on_two_nodes(made.objects[-1])["spec"]
    if made.kind == "Job":
        template = spec["template"]
        return template["metadata"]["labels"], template["spec"], template["spec"]["tolerations"]
    SPEC.model_validate(spec)
    template = spec["workers"]["podTemplate"]
    return template["metadata"]["labels"], template["spec"], spec["workers"]["tolerations"]


@pytest.mark.parametrize("name", contenders.NAMES)
def test_workers_shun_each_other_as_long_as_both_nodes_count(name: str) -> None:
    labels, pod, tolerations = placed(name)
    (evenly,) = pod["topologySpreadConstraints"]
    assert evenly["labelSelector"]["matchLabels"].items() <= labels.items()
    assert (evenly["maxSkew"], evenly["whenUnsatisfiable"], evenly["nodeTaintsPolicy"]) == (1, "DoNotSchedule", "Honor")
    assert tolerations == [{"key": "modelwright.dev/second-node", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.mark.parametrize("name", contenders.NAMES)
def test_each_worker_prefers_the_node_of_the_anchor_of_its_index(name: str) -> None:
    _, pod, _ = placed(name)
    (preferred,) = pod["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    term = preferred["podAffinityTerm"]
    assert term["matchLabelKeys"] == [placement.INDEX]
    anchors = placement.anchors()
    assert [anchor["spec"]["nodeName"] for anchor in anchors] == [NODE_NAME, SECOND_NODE_NAME]
    for index, anchor in enumerate(anchors):
        assert term["labelSelector"]["matchLabels"].items() <= anchor["metadata"]["labels"].items()
        assert anchor["metadata"]["labels"][placement.INDEX] == str(index)


def test_what_is_said_of_a_worker_otherwise_stays() -> None:
    _, job = contenders.make("plain", SETTING, "a").objects
    before, after = job["spec"]["template"], placement.on_two_nodes(job)["spec"]["template"]
    assert before["spec"].items() <= after["spec"].items()
    assert before["metadata"]["labels"].items() <= after["metadata"]["labels"].items()


def test_what_has_no_pods_stays_as_it_is() -> None:
    service, _ = contenders.make("plain", SETTING, "a").objects
    assert placement.on_two_nodes(service) == service


def pod(index: int, node: str) -> dict[str, Any]:
    return {"metadata": {"labels": {placement.INDEX: str(index)}}, "spec": {"nodeName": node} if node else {}}


def test_nodes_are_told_by_worker_and_without_the_anchors() -> None:
    assert placement.nodes_of([pod(1, "b"), *placement.anchors(), pod(0, "a")]) == ("a", "b")
    assert placement.nodes_of([pod(1, ""), pod(0, "a")]) == ("a", "")
