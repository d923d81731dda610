"""The server as a process: it starts from its environment, or says why not, and turns nobody away as it leaves."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.cluster import ports
from modelwright.api.run import Failure
from modelwright.registry.errors import CorruptVersion, IncompleteVersion, StoreError
from modelwright.runtime.serve import main as process
from tests.unit.serve.models import ROW, write_version


class FakeStore:
    """Holds what the server writes."""

    def __init__(self) -> None:
        self.written: dict[str, dict[str, Any]] = {}

    def write_json(self, key: str, document: dict[str, Any]) -> None:
        self.written[key] = document


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    found = FakeStore()
    monkeypatch.setattr(process, "open_store", lambda storage: found)
    monkeypatch.setattr(process, "fetch_version", lambda store, model, version, directory: write_version(directory))
    return found


def environment(**changes: Any) -> dict[str, str]:
    (port,) = ports.free(1)
    serve = {
        "namespace": "shop", "deployment": "churn", "model": "churn", "version": 3, "port": port,
        "storage": {"uri": "s3://models/team"}, "drainSeconds": 3, "threads": 1, **changes,
    }  # fmt: skip
    return {"MODELWRIGHT_SERVE": json.dumps(serve), "MODELWRIGHT_REPLICA": "churn-v3-abc"}


class Caller(threading.Thread):
    """Calls without pause until the server is told to stop and has nearly drained; then it tells what it saw."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.answers: list[int] = []
        self.draining: list[int] = []

    def run(self) -> None:
        with httpx.Client(base_url=self.url) as client:
            if not self._ready(client):
                return
            self._call(client, 0.2)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            self.draining = [client.get(path).status_code for path in ("/v2/health/ready", "/v2/health/live")]
            self._call(client, 0.6)

    def _call(self, client: httpx.Client, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.answers.append(client.post("/predict", json={"rows": [ROW]}).status_code)

    def _ready(self, client: httpx.Client) -> bool:
        for _ in range(200):
            try:
                client.get("/v2/health/ready").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return True
        return False


def test_it_serves_drains_without_a_failed_request_and_leaves_its_last_counts(store: FakeStore):
    variables = environment()
    caller = Caller(f"http://127.0.0.1:{json.loads(variables['MODELWRIGHT_SERVE'])['port']}")
    caller.start()
    assert process.main(variables) == 0
    caller.join()
    assert set(caller.answers) == {200}
    assert caller.draining == [503, 200]
    assert sum(window["rows"] for window in store.written.values()) == len(caller.answers)
    assert all(key.endswith("/churn-v3-abc.json") for key in store.written)


def test_without_monitoring_nothing_is_counted_or_written(store: FakeStore):
    variables = environment(monitoring={"enabled": False})
    caller = Caller(f"http://127.0.0.1:{json.loads(variables['MODELWRIGHT_SERVE'])['port']}")
    caller.start()
    assert process.main(variables) == 0
    caller.join()
    assert set(caller.answers) == {200}
    assert store.written == {}


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (IncompleteVersion("there is no version 3", retryable=False), "ModelNotFound", False),
        (CorruptVersion("it was changed", retryable=False), "ModelLoadFailed", False),
        (StoreError("it cannot be reached"), "StorageUnavailable", True),
        (StoreError("wrong keys", retryable=False), "StorageUnavailable", True),
    ],
)
def test_a_version_that_cannot_be_fetched_is_told_to_the_operator(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, reason: str, retryable: bool
):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(process, "fetch_version", fail)
    told = tmp_path / "termination-log"
    assert process.main(environment(), told) == 1
    assert Failure.model_validate_json(told.read_bytes()) == Failure(
        reason=reason, message=str(error), retryable=retryable
    )


def test_a_version_that_cannot_be_loaded_is_told_to_the_operator(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def spoilt(store: object, model: str, version: int, directory: Path) -> None:
        (write_version(directory) / "model.onnx").write_bytes(b"junk")

    monkeypatch.setattr(process, "fetch_version", spoilt)
    told = tmp_path / "termination-log"
    assert process.main(environment(), told) == 1
    assert json.loads(told.read_bytes())["reason"] == "ModelLoadFailed"


def test_an_error_of_any_length_is_explained(store: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def fail(*_: object) -> None:
        raise CorruptVersion("x" * 10_000, retryable=False)

    monkeypatch.setattr(process, "fetch_version", fail)
    told = tmp_path / "termination-log"
    assert process.main(environment(), told) == 1
    assert Failure.model_validate_json(told.read_bytes()).reason == "ModelLoadFailed"
    assert len(told.read_bytes()) < 4096


@pytest.mark.parametrize("variables", [{}, {"MODELWRIGHT_SERVE": "{"}, {"MODELWRIGHT_SERVE": '{"model": "x"}'}])
def test_an_environment_that_says_nothing_is_refused(variables: dict[str, str], tmp_path: Path):
    told = tmp_path / "termination-log"
    assert process.main(variables, told) == 1
    assert json.loads(told.read_bytes())["retryable"] is False


def test_outside_a_container_the_log_says_it(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    assert process.main({}, tmp_path / "no" / "such" / "folder") == 1
    assert "is not a Serve document" in caplog.text
