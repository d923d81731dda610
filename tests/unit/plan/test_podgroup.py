"""Which gangs the scheduler is to place together, and as what."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.elastic import Elastic
from modelwright.api.trainingjob import Workers
from modelwright.api.tuningsweep import SweepWorkers
from modelwright.plan.actions import Object
from modelwright.plan.gang import Launcher, job_name
from modelwright.plan.placeholder import placeholder
from modelwright.plan.podgroup import VERSIONS, awaits_peers, has_group, least, pod_group
from tests.unit.plan.test_gang import SETTINGS, job_of, make, owner
from tests.unit.plan.test_placeholder import gang

V1ALPHA2 = "scheduling.k8s.io/v1alpha2"
GROUPED = replace(SETTINGS, pod_groups=V1ALPHA2)


def group_of(*args: Any, **workers: Any) -> Object | None:
    """Return the group that the pods of a gang name."""
    pod = job_of(make(*args, settings=GROUPED, **workers))["spec"]["template"]["spec"]
    found: Object | None = pod.get("schedulingGroup")
    return found


def created(**workers: Any) -> Object:
    """Return the Job of a gang as the API server shows it."""
    job = job_of(make(settings=GROUPED, **workers))
    return {**job, "metadata": {**job["metadata"], "uid": "uid-job"}}


def test_the_pods_of_a_gang_name_the_group_of_their_attempt() -> None:
    assert group_of(attempt=3) == {"podGroupName": job_name(owner(), 3)}
    assert group_of(launcher=Launcher.RAY) == group_of() == {"podGroupName": job_name(owner(), 1)}


def test_where_the_cluster_has_no_groups_nobody_names_one() -> None:
    assert "schedulingGroup" not in job_of(make())["spec"]["template"]["spec"]
    assert not has_group(job_of(make()))


@pytest.mark.parametrize(
    "workers",
    [
        {"replicas": 1},
        {"podTemplate": {"spec": {"schedulerName": "volcano"}}},
        {"replicas": 3, "elastic": {"min": 1}},
    ],
)
def test_one_pod_alone_and_pods_of_another_scheduler_are_in_no_group(workers: dict[str, Any]) -> None:
    assert group_of(**workers) is None


def test_a_group_that_the_user_names_is_the_users() -> None:
    mine = {"podGroupName": "mine"}
    found = created(podTemplate={"spec": {"schedulingGroup": mine}})
    assert found["spec"]["template"]["spec"]["schedulingGroup"] == mine
    assert not has_group(found)


def test_the_usual_scheduler_may_be_called_by_its_name() -> None:
    assert group_of(podTemplate={"spec": {"schedulerName": "default-scheduler"}}) is not None


def test_what_kueue_admits_is_placed_as_kueue_has_it() -> None:
    assert group_of(owner(**{"kueue.x-k8s.io/queue-name": "gpus"})) is None


def test_a_held_gang_names_its_group_before_that_is_there() -> None:
    actions = make(settings=GROUPED, suspend=True)
    assert [action.object["kind"] for action in actions] == ["Job"]
    assert has_group(job_of(actions))


def test_who_looks_for_room_is_not_counted_to_the_gang() -> None:
    worker = gang(podTemplate={"spec": {"schedulingGroup": {"podGroupName": "mine"}}})
    for spec in (gang(), worker):
        made = placeholder(spec, Elastic(min=2), 3, GROUPED)
        assert "schedulingGroup" not in made["spec"]["template"]["spec"]


@given(st.integers(1, 999), st.none() | st.integers(1, 999))
def test_an_elastic_gang_asks_for_its_minimum_at_once_and_others_for_all(replicas: int, minimum: int | None) -> None:
    elastic = None if minimum is None else Elastic(min=minimum)
    count = least(Workers.model_construct(replicas=replicas, elastic=elastic))
    assert count == (replicas if minimum is None else min(replicas, minimum))
    assert least(SweepWorkers.model_construct(replicas=replicas)) == replicas


@pytest.mark.parametrize(
    ("version", "together"),
    [
        (V1ALPHA2, "PodGroup"),
        ("scheduling.k8s.io/v1alpha3", {"all": {}}),
        ("scheduling.k8s.io/v1beta1", {"all": {}}),
    ],
)
def test_a_group_is_of_all_pods_in_the_words_of_each_version(version: str, together: Any) -> None:
    made = pod_group(created(replicas=4), 4, version)
    assert (made["apiVersion"], made["kind"]) == (version, "PodGroup")
    assert made["spec"] == {"schedulingPolicy": {"gang": {"minCount": 4}}, "disruptionMode": together}
    assert version in VERSIONS


def test_a_group_goes_with_its_job_and_never_keeps_it() -> None:
    job = created()
    made = pod_group(job, 2, V1ALPHA2)["metadata"]
    assert (made["name"], made["namespace"]) == (job["metadata"]["name"], "team")
    (above,) = made["ownerReferences"]
    assert (above["kind"], above["uid"], above["controller"], above["blockOwnerDeletion"]) == (
        "Job",
        "uid-job",
        True,
        False,
    )
    assert made["labels"] == {
        "app.kubernetes.io/managed-by": "modelwright",
        "modelwright.dev/owner-uid": "uid-1",
        "modelwright.dev/attempt": "1",
    }


def test_a_group_is_as_important_as_its_pods() -> None:
    assert pod_group(created(priorityClassName="high"), 2, V1ALPHA2)["spec"]["priorityClassName"] == "high"


@pytest.mark.parametrize(
    ("message", "awaits"),
    [
        (
            "pod group is unschedulable, waiting for minCount pods from a gang to be scheduled, one or more plugins",
            True,
        ),
        ("0/1 nodes are available: 1 Insufficient example.com/slot.", False),
        ("", False),
    ],
)
def test_a_pod_that_would_fit_is_told_from_one_that_does_not(message: str, awaits: bool) -> None:
    waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    assert awaits_peers({"status": {"conditions": [waiting]}}) is awaits
