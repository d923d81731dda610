"""Reports and alerts that come in over HTTP, with tokens of a real API server."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from e2e.bench.operator import Operator
from tests.integration.kube.conftest import StartOperator, await_true, manifest, ready_reason
from tests.integration.plane import Plane

pytestmark = pytest.mark.timeout(180)


def post(operator: Operator, path: str, body: Any, token: str) -> int:
    request = urllib.request.Request(  # noqa: S310 (our own address)
        operator.url + path, json.dumps(body).encode(), {"Authorization": f"Bearer {token}"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def pod_token(plane: Plane, pod: dict[str, Any], audience: str = "modelwright") -> str:
    metadata = pod["metadata"]
    return plane.kubectl.run(
        "create",
        "token",
        "default",
        f"--namespace={metadata['namespace']}",
        f"--audience={audience}",
        "--bound-object-kind=Pod",
        f"--bound-object-name={metadata['name']}",
        f"--bound-object-uid={metadata['uid']}",
    ).strip()


def running_job(plane: Plane, namespace: str, name: str) -> dict[str, Any]:
    """Return a pod of a TrainingJob of that name; no node runs it, which its token does not mind."""
    job = manifest("trainingjob-command", namespace, name)
    for field in ("priorityClassName", "nodeSelector", "tolerations"):
        job["spec"]["workers"].pop(field, None)
    plane.kubectl.apply([job])

    def pods() -> list[dict[str, Any]]:
        uid = (plane.get(namespace, "trainingjob", name) or {})["metadata"]["uid"]
        found = plane.list(namespace, "pods")
        return [pod for pod in found if pod["metadata"]["labels"].get("modelwright.dev/owner-uid") == uid]

    return await_true(pods)[0]


REPORT = {"attempt": 1, "progress": {"step": 40, "totalSteps": 100, "time": "2026-01-01T00:00:00Z"}}


def test_a_pods_report_arrives_in_the_status_of_its_own_job_only(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    operator = start_operator()
    pod, other = running_job(plane, namespace, "a"), running_job(plane, namespace, "b")
    path = f"/v1/namespaces/{namespace}/trainingjobs/a/report"
    assert post(operator, path, REPORT, pod_token(plane, other)) == 403
    assert post(operator, path, REPORT, pod_token(plane, pod, "https://kubernetes.default.svc.cluster.local")) == 401
    assert post(operator, path, REPORT, "made-up") == 401
    token = pod_token(plane, pod)
    await_true(lambda: post(operator, path, REPORT, token) == 202)

    def step() -> Any:
        return (plane.get(namespace, "trainingjob", "a") or {})["status"].get("progress", {}).get("step")

    await_true(lambda: step() == 40)


def test_a_replica_that_does_not_lead_passes_a_report_on(
    plane: Plane, namespace: str, start_operator: StartOperator
) -> None:
    leader = start_operator("operator-0")
    # A replica finds the leader by its address, and all listen on one port; on one machine they need two addresses.
    port = str(leader.port)
    follower = start_operator("operator-1", lead=False, http_host="127.0.0.2", pod_ip="127.0.0.2", http_port=port)
    follower.url = f"http://127.0.0.2:{port}"
    follower.wait_until(lambda: follower.get("/readyz")[0] == 200)
    pod = running_job(plane, namespace, "a")
    token = pod_token(plane, pod)
    path = f"/v1/namespaces/{namespace}/trainingjobs/a/report"
    await_true(lambda: post(follower, path, REPORT, token) == 202)
    assert leader.metric('modelwright_reports_total{code="202"}') >= 1


def policy(namespace: str) -> dict[str, Any]:
    document = manifest("driftpolicy", namespace, "p", alerts={"matchLabels": {"team": "ml"}})
    document["spec"]["retraining"] |= {"triggers": ["Alert"], "cooldownSeconds": 0}
    document["spec"]["retraining"]["template"]["suspend"] = True
    document["spec"].pop("test", None)
    return document


def notification(*fingerprints: str) -> dict[str, Any]:
    alerts = [
        {
            "status": "firing",
            "fingerprint": fingerprint,
            "startsAt": "2026-01-01T00:00:00Z",
            "labels": {"alertname": f"Alert-{fingerprint}", "team": "ml"},
        }
        for fingerprint in fingerprints
    ]
    return {"version": "4", "status": "firing", "alerts": alerts}


def test_an_alert_starts_one_retraining_however_often_it_comes(
    plane: Plane, namespace: str, start_operator: StartOperator, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    operator = start_operator(alert_token_file=str(token))
    plane.kubectl.apply([policy(namespace)])
    await_true(lambda: ready_reason(plane.get(namespace, "driftpolicy", "p")))
    assert post(operator, "/v1/alerts", notification("f1"), "guess") == 401
    assert post(operator, "/v1/alerts", notification("f1"), "secret") == 200
    assert len(plane.list(namespace, "trainingjobs")) == 1
    assert post(operator, "/v1/alerts", notification("f1", "f2"), "secret") == 200
    assert len(plane.list(namespace, "trainingjobs")) == 1
    status = plane.get(namespace, "driftpolicy", "p")["status"]
    outcomes = {incident["name"]: incident["outcome"] for incident in status["incidents"]}
    assert outcomes == {"Alert-f1": "Retraining", "Alert-f2": "Cooldown"}
    writes = operator.writes()
    operator.wait_until(lambda: operator.metric("modelwright_queue_depth") == 0)
    assert operator.writes() <= writes + 4
