"""Gangs and their PodGroups, on an API server that has them and with the built-in controllers that know them."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.kube.conftest import StartOperator, await_true, manifest, ready_reason
from tests.integration.plane import Plane, running

pytestmark = pytest.mark.timeout(180)
WORKERS = {"replicas": 2, "image": "example.com/train", "command": ["train"]}


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    """Instead of the one of all other tests, which is as most clusters are."""
    with running(pod_groups=True) as plane:
        yield plane


def job(namespace: str, name: str, **workers: Any) -> dict[str, Any]:
    return manifest("trainingjob-command", namespace, name, workers={**WORKERS, **workers})


def groups(plane: Plane, namespace: str) -> list[dict[str, Any]]:
    return plane.list(namespace, "podgroups")


def patch(plane: Plane, namespace: str, **spec: Any) -> None:
    body = json.dumps({"spec": spec})
    plane.kubectl.run("patch", "trainingjob", "a", f"--namespace={namespace}", "--type=merge", f"--patch={body}")


def test_a_gang_gets_a_group_that_its_pods_name_and_that_goes_with_it(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    operator = start_operator()
    plane.kubectl.apply([job(namespace, "a"), job(namespace, "alone", replicas=1)])
    (group,) = await_true(lambda: groups(plane, namespace))
    assert group["spec"]["schedulingPolicy"] == {"gang": {"minCount": 2}}
    assert group["spec"]["disruptionMode"] == "Pod", "the feature for it is off here, which is no error"
    (above,) = group["metadata"]["ownerReferences"]
    made = plane.get(namespace, "job", above["name"])
    assert made is not None
    assert made["metadata"]["uid"] == above["uid"]
    pods = await_true(lambda: [pod for pod in plane.list(namespace, "pods") if "alone" not in pod["metadata"]["name"]])
    wanted = [{"podGroupName": group["metadata"]["name"]}]
    assert [pod["spec"].get("schedulingGroup") for pod in pods] == wanted * 2
    (alone,) = await_true(lambda: [pod for pod in plane.list(namespace, "pods") if "alone" in pod["metadata"]["name"]])
    assert "schedulingGroup" not in alone["spec"]

    plane.kubectl.run("delete", "trainingjob", "a", f"--namespace={namespace}", "--timeout=30s")
    await_true(lambda: not groups(plane, namespace))
    assert operator.metric("modelwright_unexpected_errors_total") == 0


def test_a_held_gang_has_no_group_and_one_that_goes_on_gets_it_back(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    start_operator()
    plane.kubectl.apply([manifest("trainingjob-command", namespace, "a", workers=WORKERS, suspend=True)])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Suspended")
    assert groups(plane, namespace) == []
    patch(plane, namespace, suspend=False)
    (first,) = await_true(lambda: groups(plane, namespace))
    patch(plane, namespace, suspend=True)
    await_true(lambda: not plane.list(namespace, "pods"))
    plane.kubectl.run("delete", "podgroup", first["metadata"]["name"], f"--namespace={namespace}", "--timeout=30s")
    patch(plane, namespace, suspend=False)
    (second,) = await_true(lambda: groups(plane, namespace))
    assert second["metadata"]["name"] == first["metadata"]["name"]
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


def test_a_new_process_finds_nothing_to_write(plane: Plane, namespace: str, start_operator: StartOperator) -> None:
    first = start_operator()
    plane.kubectl.apply([job(namespace, "a", priorityClassName="system-cluster-critical")])
    await_true(lambda: len(plane.list(namespace, "pods")) == 2 and groups(plane, namespace))
    time.sleep(2)
    first.stop()
    second = start_operator("operator-1")
    time.sleep(3)
    assert second.writes() == 0


def test_who_wants_no_groups_has_none(plane: Plane, namespace: str, start_operator: StartOperator) -> None:
    start_operator(gang_scheduling="Disabled")
    plane.kubectl.apply([job(namespace, "a")])
    pods = await_true(lambda: plane.list(namespace, "pods"))
    assert groups(plane, namespace) == []
    assert not [pod for pod in pods if "schedulingGroup" in pod["spec"]]


def test_a_user_who_names_a_group_of_their_own_keeps_it(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    start_operator()
    mine = {"spec": {"schedulingGroup": {"podGroupName": "mine"}}}
    plane.kubectl.apply([job(namespace, "a", podTemplate=mine)])
    pods = await_true(lambda: plane.list(namespace, "pods"))
    assert {pod["spec"]["schedulingGroup"]["podGroupName"] for pod in pods} == {"mine"}
    assert groups(plane, namespace) == []
