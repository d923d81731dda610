from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.kube.objects import Key, Objects, trim
from tests.unit.kube.fake_api import Clock, child, training_job

KEY = Key("TrainingJob", "ns", "a")


def shown(document: dict[str, Any], uid: str, version: int) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "uid": uid, "resourceVersion": str(version)}}


class Ear:
    def __init__(self, objects: Objects) -> None:
        self.heard: list[tuple[Key, str | None, Key | None]] = []
        objects.subscribe(self)

    def __call__(self, key: Key, owner: str | None, by: Key | None) -> None:
        self.heard.append((key, owner, by))


@given(st.permutations(range(1, 7)))
def test_whatever_the_order_of_arrival_the_newest_state_stays(order: list[int]) -> None:
    objects = Objects()
    for version in order:
        objects.put(shown(training_job(epochs=version), "u", version))
    assert objects.get(KEY)["spec"] == {"epochs": 6}


@given(st.lists(st.sampled_from(["old write", "delete", "list"]), min_size=1))
def test_a_late_answer_to_a_write_does_not_bring_a_deleted_object_back(order: list[str]) -> None:
    objects = Objects()
    objects.put(shown(training_job(), "u", 1))
    objects.remove(KEY, "u", 5)
    for event in order:
        if event == "delete":
            objects.remove(KEY, "u", 5)
        else:
            assert not objects.put(shown(training_job(), "u", 4))
    assert objects.get(KEY) is None


def test_an_object_that_returns_after_it_left_the_selection_is_taken_in() -> None:
    objects = Objects()
    objects.put(shown(training_job(), "u", 1))
    objects.remove(KEY, "u", 5)
    assert objects.put(shown(training_job(), "u", 6))


def test_a_successor_of_the_same_name_is_another_object() -> None:
    objects = Objects()
    objects.put(shown(training_job(), "first", 1))
    objects.put(shown(training_job(), "second", 3))
    assert objects.owner_key("first") is None
    assert objects.owner_key("second") == KEY
    assert not objects.remove(KEY, "first", 2)
    assert objects.get(KEY) is not None


def test_the_same_state_again_is_no_news_but_confirms_the_object() -> None:
    clock = Clock()
    objects = Objects(clock)
    objects.put(shown(training_job(), "u", 1))
    ear = Ear(objects)
    clock.now += 50
    assert not objects.put(shown(training_job(), "u", 1))
    assert ear.heard == []
    assert objects.record(KEY).seen == clock.now


def test_children_are_found_by_owner_in_the_order_of_their_names() -> None:
    objects = Objects()
    for number in (2, 1):
        objects.put(shown(child("Pod", f"p-{number}", "owner"), f"pod-{number}", number))
    objects.put(shown(child("Job", "j", "owner"), "job", 3))
    objects.put(shown(child("Job", "other", "somebody"), "job-2", 4))
    found = objects.children("owner")
    assert [pod["metadata"]["name"] for pod in found["Pod"]] == ["p-1", "p-2"]
    assert [job["metadata"]["name"] for job in found["Job"]] == ["j"]
    objects.remove(Key("Job", "ns", "j"), "job", 9)
    assert "Job" not in objects.children("owner")
    assert objects.children("nobody") == {}


def test_a_child_that_changes_hands_belongs_to_its_new_owner_only() -> None:
    objects = Objects()
    objects.put(shown(child("Job", "j", "first"), "job", 1))
    objects.put(shown(child("Job", "j", "second"), "job", 2))
    assert objects.children("first") == {}
    assert list(objects.children("second")) == ["Job"]


def test_listeners_hear_of_every_change_with_its_owner_and_its_author() -> None:
    objects = Objects()
    ear = Ear(objects)
    objects.put(shown(child("Job", "j", "owner"), "job", 1), by=KEY)
    objects.remove(Key("Job", "ns", "j"), "job", 2)
    assert ear.heard == [(Key("Job", "ns", "j"), "owner", KEY), (Key("Job", "ns", "j"), "owner", None)]


def test_what_a_list_lacks_is_absent_unless_it_is_newer_than_the_list() -> None:
    objects = Objects()
    for name, version in (("kept", 1), ("gone", 2), ("new", 9)):
        objects.put(shown(training_job(name), name, version))
    present = {(Key("TrainingJob", "ns", "kept"), "kept")}
    assert objects.absent("TrainingJob", None, present, 5) == [(Key("TrainingJob", "ns", "gone"), "gone")]
    assert objects.absent("TrainingJob", "elsewhere", present, 5) == []
    assert objects.absent("TuningSweep", None, present, 5) == []


def test_a_list_that_shows_a_successor_makes_the_predecessor_absent() -> None:
    objects = Objects()
    objects.put(shown(training_job(), "first", 1))
    assert objects.absent("TrainingJob", None, {(KEY, "second")}, 5) == [(KEY, "first")]


def test_a_copy_cannot_change_what_is_stored() -> None:
    objects = Objects()
    objects.put(shown(training_job(epochs=1), "u", 1))
    objects.get(KEY)["spec"]["epochs"] = 2
    assert objects.get(KEY)["spec"]["epochs"] == 1


@pytest.mark.parametrize("levels", [260, 1100, 5000])
def test_what_is_too_deep_to_be_written_is_kept_without_its_depths(levels: int) -> None:
    affinity: dict[str, Any] = {}
    for _ in range(levels):
        affinity = {"a": [affinity]}
    objects = Objects()
    assert objects.put(shown(training_job(affinity=affinity, epochs=1), "u", 1))
    kept = objects.get(KEY)["spec"]
    assert kept["epochs"] == 1
    assert str(kept["affinity"]).count("a") == 63


@pytest.mark.parametrize("number", [10**20, -(10**20)])
def test_a_number_that_is_too_long_to_be_written_is_kept_as_a_float(number: int) -> None:
    objects = Objects()
    objects.put(shown(training_job(found=number, least=-(2**63), most=2**64 - 1), "u", 1))
    assert objects.get(KEY)["spec"] == {"found": float(number), "least": -(2**63), "most": 2**64 - 1}


def test_what_kubectl_was_given_is_not_kept_twice() -> None:
    document = training_job()
    document["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "x"}
    assert trim(document)["metadata"]["annotations"] == {"mine": "x"}
    assert len(document["metadata"]["annotations"]) == 2


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
def test_pod_templates_are_not_kept_but_for_what_the_pods_of_a_job_ask_for_and_their_group(kind: str) -> None:
    resources = {"limits": {"cpu": "1"}}
    container = {"name": "worker", "image": "x", "resources": resources, "env": [{"name": "A", "value": "b"}]}
    group = {"schedulingGroup": {"podGroupName": "x"}, "priorityClassName": "high"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container], "nodeSelector": {}, **group}}
    document = child(kind, "x", "o", spec={"replicas": 1, "template": template})
    kept = {"spec": {"containers": [{"name": "worker", "resources": resources}], **group}} if kind == "Job" else {}
    assert trim(document)["spec"] == {"replicas": 1, "template": {"metadata": {"labels": {"a": "b"}}, **kept}}
    assert document["spec"]["template"] == template


def test_of_a_pod_the_status_and_the_node_are_kept_and_nobody_keeps_managed_fields() -> None:
    status = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "containerStatuses": [{"name": "worker", "state": {"running": {}}, "imageID": "sha256:0"}],
    }
    pod = child("Pod", "p", "o", spec={"nodeName": "n", "containers": [{}]}, status=status)
    pod["metadata"]["managedFields"] = [{"manager": "kubelet"}]
    slim = trim(pod)
    assert slim["spec"] == {"nodeName": "n"}
    assert slim["status"] == {
        "phase": "Running",
        "containerStatuses": [{"name": "worker", "state": {"running": {}}}],
    }
    assert "managedFields" not in slim["metadata"]


def test_of_a_pod_that_is_not_started_again_it_is_kept_what_has_to_end() -> None:
    fetch, proxy = {"name": "fetch", "image": "a"}, {"name": "proxy", "image": "b", "restartPolicy": "Always"}
    spec = {"nodeName": "n", "restartPolicy": "Never", "containers": [{"name": "worker", "image": "c"}]}
    kept = {"nodeName": "n", "restartPolicy": "Never", "containers": [{"name": "worker"}]}
    assert trim(child("Pod", "p", "o", spec=spec))["spec"] == kept
    beside = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}
    assert trim(child("Pod", "p", "o", spec={**spec, "initContainers": [fetch, proxy]}))["spec"] == {**kept, **beside}


def test_the_census_counts_our_kinds_by_reason() -> None:
    objects = Objects()
    ready = {"status": {"conditions": [{"type": "Stalled", "reason": "X"}, {"type": "Ready", "reason": "Training"}]}}
    objects.put(shown({**training_job("a"), **ready}, "a", 1))
    objects.put(shown({**training_job("b"), **ready}, "b", 2))
    objects.put(shown(training_job("c"), "c", 3))
    objects.put(shown(child("Job", "j", "a"), "job", 4))
    assert objects.census() == {("TrainingJob", "Training"): 2, ("TrainingJob", ""): 1}


def test_of_a_ray_job_only_what_counts_of_its_templates_is_kept() -> None:
    container = {"name": "worker", "env": [{"name": "A"}], "resources": {"requests": {"cpu": "1"}}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container], "volumes": []}}
    groups = [{"replicas": 2, "template": template}]
    cluster = {"headGroupSpec": {"template": template}, "workerGroupSpecs": groups, "rayVersion": "2.60.0"}
    document = {"kind": "RayJob", "metadata": {"name": "a"}, "spec": {"suspend": True, "rayClusterSpec": cluster}}
    kept = {"containers": [{"name": "worker", "resources": {"requests": {"cpu": "1"}}}]}
    slim = trim(document)["spec"]
    assert slim["suspend"] is True
    assert slim["rayClusterSpec"] == {
        "headGroupSpec": {"template": {"spec": kept}},
        "workerGroupSpecs": [{"replicas": 2}],
    }


def test_what_was_only_out_of_sight_is_there_again_when_it_is_seen() -> None:
    objects = Objects()
    objects.put(shown(training_job(), "u", 7))
    # A kind that could not be listed for a moment, or a write that was answered with "not found".
    assert objects.remove(KEY, "u")
    assert objects.put(shown(training_job(), "u", 7))
    assert objects.get(KEY) is not None


def test_nobody_speaks_for_an_object_of_another_namespace() -> None:
    objects = Objects()
    objects.put(shown(training_job(), "u", 1))
    ours, theirs = (shown(child("Job", name, "u"), f"uid-{name}", 2) for name in ("a-1", "a-2"))
    theirs["metadata"]["namespace"] = "others"
    for each in (ours, theirs):
        objects.put(each)
    assert [found["metadata"]["name"] for found in objects.children("u")["Job"]] == ["a-1"]
    assert objects.parent(Key("Job", "ns", "a-1"), "u") == KEY
    assert objects.parent(Key("Job", "others", "a-2"), "u") is None
    assert objects.parent(Key("Job", "ns", "a-1"), None) is None
