"""What the server does around predictions: health, routes, limits, metrics, and leaving."""

import asyncio
import json

import httpx
import pytest

from modelwright.runtime.monitor.counters import Counters
from modelwright.runtime.serve.app import App
from modelwright.runtime.serve.errors import InferenceError
from modelwright.runtime.serve.http import MAX_BODY
from tests.unit.serve.conftest import connect
from tests.unit.serve.models import ROW

BODY = {"rows": [ROW]}


async def test_a_ready_server_says_so(client: httpx.AsyncClient):
    for path in ("/v2/health/ready", "/v2/health/live", "/v2/models/churn/ready", "/v2/models/churn/versions/3/ready"):
        assert (await client.get(path)).status_code == 200


async def test_a_draining_server_is_not_ready_but_alive_and_answers_and_lets_connections_go(app: App):
    app.draining = True
    async with connect(app) as client:
        assert (await client.get("/v2/health/ready")).status_code == 503
        assert (await client.get("/v2/models/churn/ready")).status_code == 503
        assert (await client.get("/v2/health/live")).status_code == 200
        answer = await client.post("/predict", json=BODY)
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"


async def test_connections_stay_open_while_nothing_is_wrong(client: httpx.AsyncClient):
    assert "connection" not in (await client.post("/predict", json=BODY)).headers


async def test_the_page_gives_an_example_that_works(client: httpx.AsyncClient):
    page = (await client.get("/")).json()
    assert page["columns"] == {"age": "Numeric", "yearly income": "Numeric", "city": "Categorical"}
    call = page["predict"]
    assert (await client.post(call["path"], json=call["body"])).status_code == 200
    assert (await client.get(page["open_inference_protocol"])).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v2/models/other", 404, "this server has model churn version 3"),
        ("GET", "/v2/models/churn/versions/9", 404, "this server has model churn version 3"),
        ("POST", "/v1/models/other:predict", 404, "GET / says how to call it"),
        ("GET", "/predict", 405, "/predict takes POST"),
        ("POST", "/v2", 405, "/v2 takes GET"),
    ],
)
async def test_wrong_paths_and_methods_are_explained(
    client: httpx.AsyncClient, method: str, path: str, status: int, words: str
):
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert words in answer.json()["error"]


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(client: httpx.AsyncClient):
    answer = await client.post("/predict", content=b"x", headers={"Content-Length": str(MAX_BODY + 1)})
    assert answer.status_code == 413
    assert answer.json()["expected"] == f"at most {MAX_BODY} bytes"


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client: httpx.AsyncClient):
    async def chunks():
        for _ in range(17):
            yield b" " * (1024 * 1024)

    assert (await client.post("/predict", content=chunks())).status_code == 413


async def test_compressed_bodies_are_refused_in_words(client: httpx.AsyncClient):
    answer = await client.post("/predict", content=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


async def test_requests_and_rows_are_counted_by_model_version_and_code(client: httpx.AsyncClient):
    await client.post("/predict", json={"rows": [ROW, ROW]})
    await client.post("/predict", json={})
    text = (await client.get("/metrics")).text
    assert 'modelwright_requests_total{code="200",model="churn",version="3"} 1.0' in text
    assert 'modelwright_requests_total{code="400",model="churn",version="3"} 1.0' in text
    assert 'modelwright_rows_total{model="churn",version="3"} 2.0' in text
    assert 'modelwright_request_duration_seconds_count{model="churn",version="3"} 2.0' in text
    assert 'modelwright_requests_in_flight{model="churn",version="3"} 0.0' in text
    assert 'modelwright_model_info{model="churn",version="3"} 1.0' in text


async def test_answered_rows_are_counted_for_drift_and_refused_ones_are_not(
    client: httpx.AsyncClient, counters: Counters
):
    await client.post("/predict", json=BODY)
    await client.post("/predict", json={"rows": [ROW, {**ROW, "age": "x"}]})
    counts = counters.total()
    assert counts.rows == 1
    assert counts.columns["age"].tolist() == [0, 1, 0, 0]
    assert counts.columns["city"].tolist() == [0, 1, 0, 0]
    assert counts.prediction.tolist() == [0, 1, 0, 0]


async def test_a_model_that_breaks_is_the_servers_fault_and_shows_no_values(app: App, monkeypatch: pytest.MonkeyPatch):
    def broken(batch: object) -> None:
        raise InferenceError("the model failed on 1 rows: RuntimeException")

    monkeypatch.setattr(app._model, "run", broken)
    async with connect(app) as client:
        answer = await client.post("/predict", json=BODY)
        text = (await client.get("/metrics")).text
    assert answer.status_code == 500
    assert answer.json() == {"error": "the model failed on 1 rows: RuntimeException"}
    assert 'code="500"' in text


async def test_a_caller_who_hangs_up_is_counted_and_harms_nobody(app: App):
    async def hang_up():
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        raise AssertionError("nobody listens")

    await app({"type": "http", "method": "POST", "path": "/predict", "headers": []}, hang_up, send)
    async with connect(app) as client:
        assert 'code="499"' in (await client.get("/metrics")).text


async def test_slow_models_run_beside_the_event_loop(app: App, monkeypatch: pytest.MonkeyPatch):
    import threading

    where: list[str] = []
    run = app._model.run

    def watched(batch):
        where.append(threading.current_thread().name)
        return run(batch)

    monkeypatch.setattr(app._model, "run", watched)
    async with connect(app) as client:
        monkeypatch.setattr(app._model, "seconds", lambda rows: 0.0)
        await client.post("/predict", json=BODY)
        monkeypatch.setattr(app._model, "seconds", lambda rows: 1.0)
        await asyncio.gather(*(client.post("/predict", json=BODY) for _ in range(3)))
    assert where[0] == "MainThread"
    assert all(name.startswith("ThreadPoolExecutor") for name in where[1:])


async def test_large_bodies_give_the_same_answers_as_small_ones(client: httpx.AsyncClient):
    small = (await client.post("/predict", json=BODY)).json()
    padded = json.dumps(BODY).encode() + b" " * 40_000
    assert (await client.post("/predict", content=padded)).json() == small
