"""Attempts as RayJobs, by KubeRay's own definition of them; KubeRay itself is played by the test."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.kuberay import KubeRay
from tests.integration.kube.conftest import StartOperator, await_true, manifest, ready_reason
from tests.integration.plane import Plane

JOB = "trainingjob-command"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def install(plane: Plane) -> Iterator[Any]:
    """Return what installs KubeRay's definitions; they go with the test."""
    path = KubeRay().folder() / "ray.io_rayjobs.yaml"

    def do() -> None:
        # Too large for the annotation of a client-side apply.
        plane.kubectl.run("apply", "--server-side", f"--filename={path}")
        # Before its first condition is there, kubectl's own wait is an error.
        established = ("wait", "crd/rayjobs.ray.io", "--for=condition=Established", "--timeout=30s")
        await_true(lambda: plane.kubectl.attempt(*established).returncode == 0)

    yield do
    plane.kubectl.run("delete", "crd", "rayjobs.ray.io", "--ignore-not-found", "--timeout=60s")


def under_kuberay(namespace: str, **spec: Any) -> dict[str, Any]:
    wanted = manifest(JOB, namespace, "a", framework="Ray", ray={"kuberay": True}, **spec)
    wanted["spec"]["failurePolicy"] = {"backoffSeconds": 0}
    return wanted


def tell(plane: Plane, namespace: str, name: str, **status: Any) -> None:
    """Write the status of a RayJob as KubeRay does."""
    plane.kubectl.run(
        "patch",
        "rayjob",
        name,
        f"--namespace={namespace}",
        "--subresource=status",
        "--type=merge",
        f"--patch={json.dumps({'status': status})}",
    )


def rayjobs(plane: Plane, namespace: str) -> list[dict[str, Any]]:
    """Return the RayJobs, in the order of their attempts; none where nobody knows of any."""
    answer = plane.kubectl.attempt("get", "rayjobs", f"--namespace={namespace}", "--output=json")
    found: list[dict[str, Any]] = json.loads(answer.stdout)["items"] if answer.returncode == 0 else []
    return sorted(found, key=lambda job: str(job["metadata"]["name"]))


def test_a_job_that_waits_for_kuberay_starts_when_its_kinds_are_there_and_its_ray_job_is_one_of_them(
    plane: Plane, namespace: str, start_operator: StartOperator, install: Any
) -> None:
    operator = start_operator()
    plane.kubectl.apply([under_kuberay(namespace)])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "KubeRayNotInstalled")
    assert operator.get("/healthz")[0] == 200
    install()
    (job,) = await_true(lambda: rayjobs(plane, namespace), 120)
    # All of it is of the schema: what a definition does not know is refused or dropped.
    assert job["spec"]["submissionMode"] == "HTTPMode"
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    for template in (cluster["headGroupSpec"]["template"], group["template"]):
        assert template["metadata"]["labels"]["modelwright.dev/attempt"] == "1"
        assert template["metadata"]["annotations"] == {"ray.io/overwrite-container-cmd": "true"}
        (container,) = template["spec"]["containers"]
        assert {"command", "env", "readinessProbe", "livenessProbe", "volumeMounts"} <= container.keys()
        assert container["resources"]["limits"] == {"nvidia.com/gpu": 1, "memory": "64Gi"}
    assert cluster["authOptions"] == {"mode": "token"}
    assert operator.metric("modelwright_unexpected_errors_total") == 0


def test_a_ray_job_is_followed_suspended_and_replaced(
    plane: Plane, namespace: str, start_operator: StartOperator, install: Any
) -> None:
    install()
    operator = start_operator()
    plane.kubectl.apply([under_kuberay(namespace)])
    (job,) = await_true(lambda: rayjobs(plane, namespace))
    name, now = job["metadata"]["name"], job["metadata"]["creationTimestamp"]

    plane.kubectl.run(*_suspend(namespace, "true"))
    await_true(lambda: rayjobs(plane, namespace)[0]["spec"]["suspend"])
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Suspended")
    plane.kubectl.run(*_suspend(namespace, "false"))
    await_true(lambda: not rayjobs(plane, namespace)[0]["spec"]["suspend"])

    tell(plane, namespace, name, jobDeploymentStatus="Running", startTime=now, rayClusterName="c")
    logs = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n"
    told = logs + '{"reason": "OutOfMemory", "message": "full", "failureClass": "OutOfMemory"}\n'
    tell(plane, namespace, name, jobDeploymentStatus="Failed", reason="AppFailed", message=told, endTime=now)
    first, second = await_true(lambda: both if len(both := rayjobs(plane, namespace)) == 2 else None)
    assert (first["metadata"]["name"], first["spec"]["suspend"]) == (name, False)
    status = await_true(lambda: (plane.get(namespace, "trainingjob", "a") or {}).get("status"))
    assert status["failures"] == [{"failureClass": "OutOfMemory", "count": 1}]

    tell(
        plane, namespace, second["metadata"]["name"], jobDeploymentStatus="Complete", jobStatus="SUCCEEDED", endTime=now
    )
    await_true(lambda: ready_reason(plane.get(namespace, "trainingjob", "a")) == "Succeeded")
    assert operator.metric("modelwright_unexpected_errors_total") == 0


def _suspend(namespace: str, value: str) -> tuple[str, ...]:
    patch = f'--patch={{"spec":{{"suspend":{value}}}}}'
    return ("patch", "trainingjob", "a", f"--namespace={namespace}", "--type=merge", patch)
