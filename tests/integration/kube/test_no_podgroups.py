"""Gangs on an API server without PodGroups, as most are: nothing of them is asked for, and nothing is lost."""

from typing import Any

import pytest

from tests.integration.kube.conftest import StartOperator, await_true, manifest
from tests.integration.plane import Plane

pytestmark = pytest.mark.timeout(180)
WORKERS = {"replicas": 2, "image": "example.com/train", "command": ["train"]}


def test_where_groups_are_not_served_pods_are_placed_one_by_one(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    asked = plane.kubectl.attempt("get", "podgroups", f"--namespace={namespace}")
    assert "the server doesn't have a resource type" in asked.stderr
    operator = start_operator()
    plane.kubectl.apply([manifest("trainingjob-command", namespace, "a", workers=WORKERS)])

    def pods() -> list[dict[str, Any]]:
        return plane.list(namespace, "pods")

    await_true(lambda: len(pods()) == 2)
    assert not [pod for pod in pods() if "schedulingGroup" in pod["spec"]]
    assert "gangs are placed pod by pod" in operator.log.read_text()
    assert operator.metric("modelwright_unexpected_errors_total") == 0
