"""An elastic gang with real Jobs: what ends them, and what Kubernetes' own controller makes of a placeholder."""

import json
from typing import Any

import pytest

from tests.integration.kube.conftest import StartOperator, await_true, manifest, ready_reason
from tests.integration.plane import Plane

pytestmark = pytest.mark.timeout(180)
WORKERS = {
    "replicas": 2,
    "elastic": {"min": 1, "waitSeconds": 10, "growAfterSeconds": 10},
    "image": "example.com/train",
    "command": ["train"],
}
QUOTAS = json.dumps([{"name": "cpus", "resources": {"cpu": 2}}])
NOW = "2026-11-23T10:00:00Z"
CHECKPOINT = {"step": 10, "uri": "s3://bucket/checkpoints/10/", "time": NOW}


def job(namespace: str, name: str) -> dict[str, Any]:
    workers = {**WORKERS, "resources": {"requests": {"cpu": 1}}}
    return manifest("trainingjob-command", namespace, name, workers=workers)


def pods(plane: Plane, namespace: str, label: str) -> list[dict[str, Any]]:
    found = plane.kubectl.get("pods", f"--namespace={namespace}", f"--selector={label}")["items"]
    return [pod for pod in found if pod["status"]["phase"] == "Pending"]


def let_run(plane: Plane, namespace: str, label: str, count: int = 1) -> None:
    """Do what a scheduler and a kubelet would for the first pods with a label."""
    found = await_true(lambda: pods(plane, namespace, label))
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": NOW}
    state = {"name": "worker", "image": "a", "imageID": "a", "ready": True, "restartCount": 0}
    running = {**state, "state": {"running": {"startedAt": NOW}}}
    body = {"status": {"phase": "Running", "conditions": [scheduled], "containerStatuses": [running]}}
    for pod in found[:count]:
        name = pod["metadata"]["name"]
        scope = (f"--namespace={namespace}", "--subresource=status", "--type=merge")
        plane.kubectl.run("patch", "pod", name, *scope, f"--patch={json.dumps(body)}")


def status(plane: Plane, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = (plane.get(namespace, "trainingjob", "a") or {}).get("status") or {}
    return found


def ends(plane: Plane, namespace: str) -> list[tuple[int, str | None]]:
    attempts = status(plane, namespace).get("attempts") or []
    return [(entry["workers"], entry.get("reason")) for entry in attempts]


def test_a_gang_shrinks_and_grows_and_keeps_its_place_in_a_quota(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    operator = start_operator(quotas=QUOTAS)
    plane.kubectl.apply([job(namespace, "a")])
    let_run(plane, namespace, "modelwright.dev/attempt=1")
    plane.kubectl.apply([job(namespace, "rival")])
    await_true(lambda: ends(plane, namespace) == [(2, "Shrunk"), (1, None)])
    first, *_ = sorted(plane.list(namespace, "jobs"), key=lambda entry: str(entry["metadata"]["name"]))
    (failed,) = [entry for entry in first["status"]["conditions"] if entry["type"] == "Failed"]
    assert failed["reason"] == "DeadlineExceeded", "its pods were asked to leave by the Job controller"

    let_run(plane, namespace, "modelwright.dev/attempt=2")
    scope = (f"--namespace={namespace}", "--subresource=status", "--type=merge")
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Training")
    *before, last = status(plane, namespace)["attempts"]
    stepped = [*before, {**last, "lastStep": CHECKPOINT["step"]}]
    told = json.dumps({"status": {"checkpoint": CHECKPOINT, "attempts": stepped}})
    plane.kubectl.run("patch", "trainingjob", "a", *scope, f"--patch={told}")
    let_run(plane, namespace, "modelwright.dev/placeholder=2")
    await_true(lambda: ends(plane, namespace) == [(2, "Shrunk"), (1, "Grown"), (2, None)])

    jobs = {entry["metadata"]["name"]: entry for entry in plane.list(namespace, "jobs")}
    assert not [name for name in jobs if name.endswith("-room")]
    assert ready_reason(plane.get(namespace, "trainingjob", "rival")) == "Queued"
    assert status(plane, namespace)["workers"] == 2
    assert status(plane, namespace).get("failures", []) == []
    assert operator.metric("modelwright_unexpected_errors_total") == 0
