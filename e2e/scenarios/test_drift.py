"""DriftPolicy: a world that moves is seen, one that does not is left alone, and an alert retrains exactly once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pandas as pd
import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.space import Space
from e2e.support.access import reach
from e2e.support.install import OPERATOR_NAMESPACE
from e2e.support.models import Models
from e2e.support.resources import Object, condition, is_ready, reason
from e2e.support.traffic import batches, predict, rows_of

_POLICIES, _NAME = "driftpolicies", "drifting"
_TEST = {"windowSeconds": 30, "intervalSeconds": 5, "minSamples": 500, "consecutive": 2}
_LABELS = {"alertname": "FlightsLate", "model": _NAME}


@pytest.fixture(scope="module", autouse=True)
def watched(space: Space, models: Models, data: Data, champion: Object) -> None:
    """A winter's model that serves, and a policy that tests it and retrains it on an alert."""
    models.copy(specs.MODEL, champion["status"]["model"]["version"], _NAME, 1)
    models.promote(_NAME, 1)
    template = specs.changed(specs.trees("", data.winter, _NAME), model={"promotion": specs.PROMOTION})["spec"]
    retraining = {"triggers": ["Alert"], "template": template}
    alerts = {"matchLabels": {"model": _NAME}}
    space.apply(
        specs.deployment(_NAME, _NAME, version=1),
        specs.policy(_NAME, _NAME, {"test": _TEST, "alerts": alerts, "retraining": retraining}),
    )
    space.journal.wait("modeldeployments", _NAME, is_ready, timeout=60)


@pytest.fixture
def operator(space: Space) -> Iterator[httpx.Client]:
    """The operator's endpoint, as Alertmanager reaches it."""
    with reach(space.installation.target, OPERATOR_NAMESPACE, "modelwright-operator") as base:
        shown = {"Authorization": f"Bearer {space.installation.alert_token()}"}
        with httpx.Client(base_url=base, headers=shown, timeout=20) as client:
            yield client


def _notification(fingerprint: str, version: str = "4", **labels: str) -> Object:
    alert = {
        "status": "firing",
        "labels": {**_LABELS, **labels},
        "annotations": {},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint,
    }
    return {"version": version, "status": "firing", "receiver": "modelwright", "alerts": [alert]}


def _send(space: Space, table: pd.DataFrame) -> None:
    with reach(space.installation.target, space.namespace, _NAME) as base, httpx.Client(timeout=10) as client:
        for batch in batches(table, 100):
            predict(client, base, _NAME, rows_of(batch))


def _tests_with_verdict(space: Space) -> int:
    states = [entry.object.get("status", {}).get("drift", {}) for entry in space.journal.entries(_POLICIES, _NAME)]
    return len({state["time"] for state in states if state.get("columns")})


def test_winter_flights_are_no_drift_to_a_winter_model(space: Space, data: Data) -> None:
    _send(space, data.live_winter)
    told = space.journal.wait(
        _POLICIES, _NAME, lambda _: _tests_with_verdict(space) >= 2, timeout=60, stop=lambda _: False
    )
    assert told["status"]["drift"]["samples"] >= _TEST["minSamples"]
    assert not [entry for entry in told["status"]["drift"]["columns"] if entry["drifted"]]
    assert (reason(told), condition(told, "Drifted")["reason"]) == ("Watching", "NoShift")


@pytest.mark.parametrize(
    ("token", "version", "status"), [(None, "4", 401), ("guessed", "4", 401), ("", "3", 400), ("", "4", 200)]
)
def test_only_alertmanager_is_believed(operator: httpx.Client, token: str | None, version: str, status: int) -> None:
    if token is None:
        del operator.headers["Authorization"]
    elif token:
        operator.headers["Authorization"] = f"Bearer {token}"
    answer = operator.post("/v1/alerts", json=_notification("x", version, model="another"))
    assert answer.status_code == status, answer.text


def test_an_alert_that_comes_three_times_retrains_once(space: Space, operator: httpx.Client) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: operator.post("/v1/alerts", json=_notification("a1")), range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    (job,) = space.list("trainingjobs")
    told = space.journal.wait(_POLICIES, _NAME, lambda policy: bool(_incidents(policy)), timeout=20)
    (incident,) = _incidents(told)
    assert (incident["trainingJob"], incident["trigger"]) == (job["metadata"]["name"], "Alert")


def test_summer_flights_are_drift_to_a_winter_model(space: Space, data: Data) -> None:
    _send(space, data.live_summer)
    told = space.journal.wait(
        _POLICIES, _NAME, lambda policy: condition(policy, "Drifted").get("status") == "True", timeout=60
    )
    moved = [entry["column"] for entry in told["status"]["drift"]["columns"] if entry["drifted"]]
    assert "temp" in moved
    space.await_event(_NAME, "Warning", "DriftDetected")


def test_a_retraining_is_followed_to_its_outcome_and_another_has_to_wait(
    space: Space, operator: httpx.Client, models: Models
) -> None:
    told = space.journal.wait(
        _POLICIES, _NAME, lambda policy: _incident(policy, "Alert")["outcome"] != "Retraining", timeout=120
    )
    first = _incident(told, "Alert")
    assert (first["outcome"], first["version"]) in [("Promoted", 2), ("NotBetter", 2)]
    assert models.lineage(_NAME, 2).trigger == f"DriftPolicy/{_NAME} alert FlightsLate"

    assert operator.post("/v1/alerts", json=_notification("a2")).status_code == 200
    told = space.journal.wait(
        _POLICIES,
        _NAME,
        lambda policy: "Cooldown" in [entry["outcome"] for entry in _incidents(policy)],
        timeout=20,
    )
    assert len(space.list("trainingjobs")) == 1


def _incidents(policy: Object) -> list[Object]:
    return list(policy.get("status", {}).get("incidents", []))


def _incident(policy: Object, trigger: str) -> Object:
    return next(entry for entry in _incidents(policy) if entry["trigger"] == trigger)
