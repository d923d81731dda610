import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer

from modelwright.api.run import TrainingReport
from modelwright.kube import auth, errors, http
from modelwright.kube.http import FORWARDED, Endpoints, leader_url
from modelwright.kube.inbox import Inbox
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Key, Objects
from tests.unit.kube.fake_api import FakeApi, child, count, of_kind, training_job
from tests.unit.kube.test_auth import REVIEW

ROOT = Path(__file__).parents[3]
REPORT = "/v1/namespaces/ns/trainingjobs/a/report"
KEY = Key("TrainingJob", "ns", "a")
POLICY = Key("DriftPolicy", "ns", "p")
ALERT = {"status": "firing", "fingerprint": "f", "startsAt": "2026-01-01T00:00:00Z", "labels": {"model": "m"}}


def notification(*alerts: dict[str, Any], version: str = "4") -> dict[str, Any]:
    return {"version": version, "alerts": list(alerts)}


class Site:
    """A replica's HTTP side, with a TrainingJob, its pod and a policy in the cluster."""

    def __init__(self, folder: Path) -> None:
        self.api, self.objects, self.metrics = FakeApi(), Objects(), Metrics()
        self.api.review = REVIEW
        self.inbox = Inbox(lambda key, delay: None)
        self.token_file = folder / "token"
        self.token_file.write_text("secret")
        self.leads = True
        self.leader: str | None = None
        self.trouble: str | None = None
        pod = child("Pod", "a-1-0", "uid-a")
        pod["metadata"]["uid"] = "pod-uid"
        policy = of_kind("DriftPolicy", "p", {"alerts": {"matchLabels": {"model": "m"}}})
        for document in (training_job("a"), training_job("b"), pod, policy):
            self.objects.put(self.api.add(document))
        self.endpoints = Endpoints(
            objects=self.objects,
            inbox=self.inbox,
            tokens=auth.PodTokens(self.api),
            rate=auth.Rate(),
            metrics=self.metrics,
            alert_token_file=self.token_file,
            accepts=lambda: self.leads,
            leader=lambda: self.leader,
            unhealthy=lambda: self.trouble,
        )

    async def handle_alerts(self) -> None:
        """Be the reconciler of the policy."""
        while not self.inbox.alerts(POLICY):  # noqa: ASYNC110 (a few turns of the loop)
            await asyncio.sleep(0)
        self.inbox.handled(POLICY, self.inbox.alerts(POLICY))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
async def web(site: Site) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(site.endpoints.application())) as client:
        yield client


def bearer(token: str = "pod") -> dict[str, str]:  # noqa: S107
    return {"Authorization": f"Bearer {token}"}


async def test_a_pod_reports_about_its_own_job(site: Site, web: TestClient) -> None:
    response = await web.post(REPORT, json={"attempt": 2, "stage": "Evaluating"}, headers=bearer())
    assert response.status == 202
    assert site.inbox.last_report(KEY, "uid-a") == TrainingReport(attempt=2, stage="Evaluating")
    assert count(site.metrics, "modelwright_reports_total", code="202") == 1


async def test_a_pod_may_not_report_about_another_job(site: Site, web: TestClient) -> None:
    response = await web.post(REPORT.replace("/a/", "/b/"), json={"attempt": 1}, headers=bearer())
    assert response.status == 403
    assert site.inbox.last_report(Key("TrainingJob", "ns", "b"), "uid-b") is None


@pytest.mark.parametrize("path", [REPORT.replace("/ns/", "/other/"), REPORT.replace("/a/", "/nobody/")])
async def test_a_pod_may_not_report_where_it_does_not_live(web: TestClient, path: str) -> None:
    assert (await web.post(path, json={"attempt": 1}, headers=bearer())).status == 403


async def test_a_pod_that_was_replaced_under_its_name_is_another_pod(site: Site, web: TestClient) -> None:
    pod = child("Pod", "a-1-0", "uid-a")
    pod["metadata"]["uid"] = "another"
    site.objects.put(site.api.add(pod))
    assert (await web.post(REPORT, json={"attempt": 1}, headers=bearer())).status == 403


async def test_a_report_without_a_token_or_with_a_bad_one_is_refused(site: Site, web: TestClient) -> None:
    assert (await web.post(REPORT, json={"attempt": 1})).status == 401
    site.api.review = {"authenticated": False}
    assert (await web.post(REPORT, json={"attempt": 1}, headers=bearer())).status == 401


@pytest.mark.parametrize("path", [REPORT, "/v1/alerts"])
async def test_a_token_of_any_bytes_is_only_a_wrong_one(web: TestClient, path: str) -> None:
    # A client of our own refuses to send this header.
    reader, writer = await asyncio.open_connection(web.host, web.port)
    lines = [f"POST {path} HTTP/1.1", "Host: operator", "Content-Length: 0", "Connection: close", ""]
    writer.write("\r\n".join(lines).encode() + b"Authorization: Bearer \xff\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_when_tokens_cannot_be_checked_nobody_is_believed(site: Site, web: TestClient) -> None:
    site.api.fail = lambda verb, kind, name: errors.Unavailable("down") if kind == "TokenReview" else None
    assert (await web.post(REPORT, json={"attempt": 1}, headers=bearer())).status == 503


async def test_a_report_that_makes_no_sense_is_refused_with_a_sentence(web: TestClient) -> None:
    response = await web.post(REPORT, json={"attempt": "first"}, headers=bearer())
    assert response.status == 400
    assert (await response.json())["error"].startswith("report.attempt: ")


async def test_a_report_that_is_too_long_is_refused(web: TestClient) -> None:
    body = json.dumps({"attempt": 1, "stage": "x" * 300_000})
    assert (await web.post(REPORT, data=body, headers=bearer())).status == 413


async def test_a_pod_that_reports_too_often_is_slowed_down(web: TestClient) -> None:
    codes = [(await web.post(REPORT, json={"attempt": 1}, headers=bearer())).status for _ in range(12)]
    assert codes[0] == 202
    assert codes[-1] == 429


async def test_alerts_are_answered_when_the_policy_has_dealt_with_them(site: Site, web: TestClient) -> None:
    handling = asyncio.create_task(site.handle_alerts())
    response = await web.post("/v1/alerts", json=notification(ALERT), headers=bearer("secret"))
    await handling
    assert (response.status, await response.json()) == (200, {"policies": 1})
    assert count(site.metrics, "modelwright_alert_requests_total", code="200") == 1


async def test_alerts_that_nobody_dealt_with_in_time_are_to_be_sent_again(
    site: Site, web: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ALERT_SECONDS", 0.01)
    response = await web.post("/v1/alerts", json=notification(ALERT), headers=bearer("secret"))
    assert response.status == 503
    assert "ns/p" in (await response.json())["error"]
    assert site.inbox.alerts(POLICY) == ()


@pytest.mark.parametrize(
    "alert", [{**ALERT, "status": "resolved"}, {**ALERT, "labels": {"model": "other"}}, {**ALERT, "labels": {}}]
)
async def test_alerts_that_concern_no_policy_are_done_at_once(web: TestClient, alert: dict[str, Any]) -> None:
    response = await web.post("/v1/alerts", json=notification(alert), headers=bearer("secret"))
    assert (response.status, await response.json()) == (200, {"policies": 0})


async def test_alerts_without_the_token_are_refused(web: TestClient) -> None:
    assert (await web.post("/v1/alerts", json=notification(ALERT))).status == 401
    assert (await web.post("/v1/alerts", json=notification(ALERT), headers=bearer("guess"))).status == 401


async def test_without_a_configured_token_no_alert_is_taken(site: Site, web: TestClient) -> None:
    site.token_file.unlink()
    response = await web.post("/v1/alerts", json=notification(ALERT), headers=bearer(""))
    assert response.status == 503
    said = (await response.json())["error"]
    assert "no alert token is configured" in said
    # A value that the chart has, by its whole name.
    (value,) = re.findall(r"chart value ([\w.]+)\)", said)
    group, name = value.split(".")
    assert name in yaml.safe_load((ROOT / "charts/modelwright/values.yaml").read_text())[group]


@pytest.mark.parametrize("body", [b"{", json.dumps(notification(ALERT, version="5")).encode(), b"[]"])
async def test_a_body_that_is_no_notification_is_refused_for_good(web: TestClient, body: bytes) -> None:
    assert (await web.post("/v1/alerts", data=body, headers=bearer("secret"))).status == 400


async def test_a_replica_that_does_not_lead_passes_on_what_comes_in(
    site: Site, web: TestClient, tmp_path: Path
) -> None:
    follower = Site(tmp_path)
    follower.leads, follower.leader = False, str(web.make_url("")).rstrip("/")
    async with TestClient(TestServer(follower.endpoints.application())) as other:
        response = await other.post(REPORT, json={"attempt": 3}, headers=bearer())
        assert response.status == 202
        assert site.inbox.last_report(KEY, "uid-a").attempt == 3
        refused = await other.post("/v1/alerts", json=notification(ALERT), headers=bearer("guess"))
        assert refused.status == 401


@pytest.mark.parametrize(
    ("leader", "headers"), [(None, {}), ("http://127.0.0.1:1", {FORWARDED: "1"}), ("http://127.0.0.1:1", {})]
)
async def test_where_nobody_leads_the_sender_is_to_try_again(
    site: Site, web: TestClient, leader: str | None, headers: dict[str, str]
) -> None:
    site.leads, site.leader = False, leader
    assert (await web.post(REPORT, json={"attempt": 1}, headers={**bearer(), **headers})).status == 503


async def test_probes_say_what_is_wrong(site: Site, web: TestClient) -> None:
    assert (await web.get("/healthz")).status == 200
    site.trouble = "the watch of pods has heard nothing"
    response = await web.get("/healthz")
    assert (response.status, await response.json()) == (500, {"error": site.trouble})
    assert (await web.get("/readyz")).status == 200
    site.leads = False
    assert (await web.get("/readyz")).status == 503
    site.leader = "http://10.0.0.1:8080"
    assert (await web.get("/readyz")).status == 200


async def test_metrics_are_shown_in_prometheus_format(web: TestClient) -> None:
    response = await web.get("/metrics")
    assert "modelwright_is_leader 0.0" in await response.text()
    assert response.headers["Content-Type"].startswith("text/plain; version=")


@pytest.mark.parametrize(
    ("holder", "url"),
    [
        ("b_10.0.0.2", "http://10.0.0.2:8080"),
        ("b_fd00::2", "http://[fd00::2]:8080"),
        ("a_10.0.0.1", None),
        ("", None),
    ],
)
def test_the_leader_is_found_by_the_signature_on_the_lease(holder: str, url: str | None) -> None:
    assert leader_url(holder, "a_10.0.0.1", 8080) == url
