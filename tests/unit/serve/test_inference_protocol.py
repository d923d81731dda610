"""Open Inference Protocol v2 in JSON."""

from typing import Any

import httpx
import pytest

from tests.unit.serve.models import probability

PATH = "/v2/models/churn/infer"


def tensors(rows: int = 1, **changes: dict[str, Any]) -> list[dict[str, Any]]:
    found = {
        "age": {"name": "age", "shape": [rows, 1], "datatype": "FP32", "data": [41.0] * rows},
        "income": {"name": "yearly income", "shape": [rows], "datatype": "FP64", "data": [52000.5] * rows},
        "city": {"name": "city", "shape": [rows, 1], "datatype": "BYTES", "data": ["Bern"] * rows},
    }
    for name, change in changes.items():
        found[name] |= change
    return list(found.values())


async def infer(client: httpx.AsyncClient, inputs: Any, **more: Any) -> httpx.Response:
    return await client.post(PATH, json={"inputs": inputs, **more})


async def test_tensors_get_tensors_and_the_id_comes_back(client: httpx.AsyncClient):
    answer = await infer(client, tensors(2), id="42")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("churn", "3", "42")
    prediction, probabilities = body["outputs"]
    assert prediction == {"name": "prediction", "datatype": "BYTES", "shape": [2, 1], "data": ["yes", "yes"]}
    p = pytest.approx(probability(41, 1))
    assert (probabilities["datatype"], probabilities["shape"]) == ("FP32", [2, 2])
    assert probabilities["data"] == [pytest.approx(1 - probability(41, 1)), p] * 2


async def test_the_path_with_the_version_answers_too(client: httpx.AsyncClient):
    answer = await client.post("/v2/models/churn/versions/3/infer", json={"inputs": tensors()})
    assert answer.json()["outputs"] == (await infer(client, tensors())).json()["outputs"]


async def test_only_the_outputs_asked_for_are_sent_in_that_order(client: httpx.AsyncClient):
    answer = await infer(client, tensors(), outputs=[{"name": "probabilities"}, {"name": "prediction"}])
    assert [entry["name"] for entry in answer.json()["outputs"]] == ["probabilities", "prediction"]


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("INT8", 41), ("UINT16", 41), ("INT64", 41), ("FP16", 41.0), ("FP64", 41), ("FP32", 41)],
)
async def test_any_number_type_feeds_a_numeric_column(client: httpx.AsyncClient, datatype: str, value: float):
    answer = await infer(client, tensors(age={"datatype": datatype, "data": [value]}))
    assert answer.json()["outputs"][1]["data"][1] == pytest.approx(probability(41, 1))


async def test_booleans_count_as_one_and_zero(client: httpx.AsyncClient):
    answer = await infer(client, tensors(age={"datatype": "BOOL", "data": [True]}))
    assert answer.json()["outputs"][1]["data"][1] == pytest.approx(probability(1, 1))


async def test_null_is_a_missing_value(client: httpx.AsyncClient):
    answer = await infer(client, tensors(age={"data": [None]}, city={"data": [None]}))
    assert answer.json()["outputs"][1]["data"][1] == pytest.approx(probability(0, 0.5))


async def test_data_may_be_nested(client: httpx.AsyncClient):
    answer = await infer(client, tensors(2, age={"data": [[41.0], [41.0]]}))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("change", "column", "expected", "got"),
    [
        ({"age": {"datatype": "BYTES", "data": ["41"]}}, "age", "FP16 or FP32", 'string "BYTES"'),
        ({"age": {"datatype": "FP99"}}, "age", "FP16 or FP32", 'string "FP99"'),
        ({"age": {"datatype": None}}, "age", "FP16 or FP32", "null"),
        ({"city": {"datatype": "FP32", "data": [1.0]}}, "city", "BYTES or INT8", 'string "FP32"'),
        ({"age": {"data": ["41"]}}, "age", "FP32 data: numbers or null", 'string "41"'),
        ({"age": {"datatype": "INT32", "data": [1.5]}}, "age", "INT32 data: whole numbers", "number 1.5"),
        ({"age": {"datatype": "INT32", "data": [None]}}, "age", "INT32 data: whole numbers", "null"),
        ({"age": {"datatype": "INT8", "data": [300]}}, "age", "INT8 data from -128 to 127", "a number outside"),
        ({"age": {"datatype": "BOOL", "data": [1]}}, "age", "BOOL data: booleans", "number 1"),
        ({"age": {"data": [True]}}, "age", "FP32 data: numbers or null", "boolean true"),
        ({"age": {"data": 41}}, "age", "data as an array", "number 41"),
        ({"age": {"data": None}}, "age", "data as an array", "null"),
        ({"age": {"data": [1, 2]}}, "age", "1 values, as the shape says", "2 values"),
        ({"age": {"data": [[1, 2]]}}, "age", "1 values, as the shape says", "2 values"),
        ({"age": {"shape": [1, 3]}}, "age", "[N] or [N, 1]", "[1, 3]"),
        ({"age": {"shape": [-1]}}, "age", "[N] or [N, 1]", "[-1]"),
        ({"age": {"shape": "1"}}, "age", "[N] or [N, 1]", "1"),
        ({"income": {"shape": [2]}}, "yearly income", "[1] or [1, 1], as the tensors before it", "[2]"),
        ({"city": {"data": [7]}}, "city", "BYTES data: strings or null", "number 7"),
        ({"age": {"name": "Age"}}, "Age", "one of age, yearly income, city", "Age"),
        ({"age": {"data": [1e39]}}, "age", "a finite 32-bit float, or null", "number 1e+39"),
        ({"age": {"parameters": {"binary_data_size": -1}}}, "age", "bytes", "number -1"),
    ],
)
async def test_a_wrong_tensor_is_named(
    client: httpx.AsyncClient, change: dict[str, Any], column: str, expected: str, got: str
):
    answer = await infer(client, tensors(**change))
    body = answer.json()
    assert answer.status_code == 400
    assert (body["column"], body["got"]) == (column, got)
    assert body["expected"].startswith(expected)


@pytest.mark.parametrize(
    "request_body",
    [
        {},
        {"inputs": []},
        {"inputs": {}},
        {"inputs": [7]},
        {"inputs": [{"name": 7}]},
        {"inputs": tensors()[:2]},
        {"inputs": [*tensors(), tensors()[0]]},
        {"inputs": tensors(age={"shape": [0], "data": []}, income={"shape": [0], "data": []})[:2]},
        {"inputs": tensors(), "id": 7},
        {"inputs": tensors(), "outputs": {}},
        {"inputs": tensors(), "outputs": "prediction"},
        {"inputs": tensors(), "outputs": [{"name": "logits"}]},
        {"inputs": tensors(), "outputs": ["prediction"]},
    ],
)
async def test_what_is_not_an_inference_request_gets_a_sentence(client: httpx.AsyncClient, request_body: dict):
    if request_body.get("outputs") == {}:
        request_body = {**request_body, "outputs": {"a": 1}}
    answer = await client.post(PATH, json=request_body)
    assert answer.status_code == 400
    assert len(answer.json()["error"]) > 10


async def test_no_rows_are_refused(client: httpx.AsyncClient):
    empty = {"shape": [0], "data": []}
    answer = await infer(client, tensors(age=empty, income=empty, city=empty))
    assert answer.json()["error"] == "the request has no rows"


async def test_whole_numbers_are_written_out_for_a_categorical_column(client: httpx.AsyncClient):
    answer = await infer(client, tensors(city={"datatype": "INT64", "data": [7]}))
    assert answer.json()["outputs"][1]["data"][1] == pytest.approx(probability(41, 0.5))


async def test_metadata_names_the_users_columns(client: httpx.AsyncClient):
    for path in ("/v2/models/churn", "/v2/models/churn/versions/3"):
        body = (await client.get(path)).json()
        assert (body["name"], body["versions"]) == ("churn", ["3"])
        assert body["inputs"] == [
            {"name": "age", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "yearly income", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
        ]
        assert [entry["shape"] for entry in body["outputs"]] == [[-1, 1], [-1, 2]]


async def test_server_metadata_names_the_binary_extension(client: httpx.AsyncClient):
    assert (await client.get("/v2")).json()["extensions"] == ["binary_tensor_data"]
