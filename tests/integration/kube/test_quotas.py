"""Gangs that wait for room, with real Jobs: an operator that was told of a quota lets them in one after the other."""

import json
import signal
from typing import Any

import pytest

from tests.integration.kube.conftest import StartOperator, await_true, manifest, ready_reason
from tests.integration.plane import Plane

pytestmark = pytest.mark.timeout(180)
QUOTAS = json.dumps([{"name": "cpus", "resources": {"cpu": 2}}])


def job(namespace: str, name: str, cpus: int = 1, **spec: Any) -> dict[str, Any]:
    workers = {"replicas": 1, "image": "example.com/train", "command": ["train"]}
    resources = {"requests": {"cpu": cpus}}
    return manifest("trainingjob-command", namespace, name, workers={**workers, "resources": resources}, **spec)


def let_in(plane: Plane, namespace: str) -> set[str]:
    jobs = plane.list(namespace, "jobs")
    return {job["metadata"]["ownerReferences"][0]["name"] for job in jobs if not job["spec"]["suspend"]}


def reasons(plane: Plane, namespace: str) -> dict[str, str | None]:
    return {entry["metadata"]["name"]: ready_reason(entry) for entry in plane.list(namespace, "trainingjobs")}


def test_gangs_wait_for_room_and_take_what_others_leave(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    operator = start_operator(quotas=QUOTAS)
    plane.kubectl.apply([job(namespace, "a"), job(namespace, "b")])
    await_true(lambda: let_in(plane, namespace) == {"a", "b"})
    plane.kubectl.apply([job(namespace, "low"), job(namespace, "high", priority=1), job(namespace, "huge", cpus=3)])
    await_true(
        lambda: (
            reasons(plane, namespace)
            == {"a": "Starting", "b": "Starting", "low": "Queued", "high": "Queued", "huge": "QuotaTooSmall"}
        )
    )
    assert operator.metric('modelwright_quota_waiting_gangs{quota="cpus"}') == 3
    # A new leader knows nothing but the cluster, and takes nobody for out who is in.
    operator.stop(signal.SIGKILL)
    start_operator("operator-1", quotas=QUOTAS)
    plane.kubectl.run("delete", "trainingjob", "a", f"--namespace={namespace}", "--timeout=30s")
    await_true(lambda: let_in(plane, namespace) == {"b", "high"})
    held = {"spec": {"suspend": True}}
    plane.kubectl.run(
        "patch", "trainingjob", "high", f"--namespace={namespace}", "--type=merge", f"--patch={json.dumps(held)}"
    )
    await_true(lambda: let_in(plane, namespace) == {"b", "low"})
    assert reasons(plane, namespace)["high"] == "Suspended"


def test_without_the_quota_those_who_waited_go_on(plane: Plane, namespace: str, start_operator: StartOperator) -> None:
    first = start_operator(quotas=QUOTAS)
    plane.kubectl.apply([job(namespace, "a", cpus=2), job(namespace, "b", cpus=2)])
    await_true(lambda: sorted(filter(None, reasons(plane, namespace).values())) == ["Queued", "Starting"])
    first.stop()
    start_operator("operator-1")
    await_true(lambda: let_in(plane, namespace) == {"a", "b"})
