"""The row form, as people use it."""

import math

import httpx
import pytest

from modelwright.runtime.serve.model import Model
from tests.unit.serve.conftest import connect
from tests.unit.serve.models import ROW, probability

PATH = "/v1/models/churn:predict"


async def predict(client: httpx.AsyncClient, *rows: object) -> httpx.Response:
    return await client.post(PATH, json={"rows": list(rows)})


async def test_rows_get_predictions_and_the_probability_of_every_class(client: httpx.AsyncClient):
    answer = await predict(client, ROW, {**ROW, "age": -300})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model"], body["version"], body["predictions"]) == ("churn", "3", ["yes", "no"])
    assert body["probabilities"][0] == {
        "no": pytest.approx(1 - probability(41, 1)), "yes": pytest.approx(probability(41, 1)),
    }  # fmt: skip


async def test_the_short_path_does_the_same(client: httpx.AsyncClient):
    answer = await client.post("/predict", json={"rows": [ROW]})
    assert answer.json() == (await predict(client, ROW)).json()


async def test_regression_gives_numbers_and_no_probabilities(regression, make_app):
    async with connect(make_app(regression)) as client:
        body = (await predict(client, ROW)).json()
    assert body == {"model": "churn", "version": "3", "predictions": [pytest.approx(1.41)]}


async def test_null_is_a_missing_value_in_any_column(client: httpx.AsyncClient):
    body = (await predict(client, {"age": None, "yearly income": None, "city": None})).json()
    assert body["probabilities"][0]["yes"] == pytest.approx(probability(0, 0.5))


async def test_a_column_that_had_gaps_in_training_may_be_left_out(client: httpx.AsyncClient):
    row = {"age": 41, "city": "Bern"}
    assert (await predict(client, row)).json()["predictions"] == ["yes"]


async def test_a_column_that_had_none_must_be_there(client: httpx.AsyncClient):
    answer = await predict(client, ROW, {"city": "Bern"})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "row 1 has no column age: write null if its value is missing",
        "column": "age", "expected": "a value or null", "got": "no such column",
    }  # fmt: skip


async def test_true_and_false_are_numbers_in_a_numeric_column(client: httpx.AsyncClient):
    body = (await predict(client, {**ROW, "age": True})).json()
    assert body["probabilities"][0]["yes"] == pytest.approx(probability(1, 1))


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (7.0, "7"), (0.1, "0.1"), (True, "true"), (False, "false"), (None, ""), ("7", "7"),
     (123456789, "123456789"), (123456789.0, "123456789"), (1e30, "1" + 30 * "0"), (1e300, "inf")],
)  # fmt: skip
def test_categories_are_written_as_training_reads_them_from_files(model: Model, value: object, text: str):
    batch = model.layout.batch({"age": [1], "yearly income": [1], "city": [value]})
    assert batch.text.tolist() == [[text]]


@pytest.mark.parametrize(
    ("row", "column", "expected", "got"),
    [
        ({**ROW, "age": "41"}, "age", "a number or null", 'string "41"'),
        ({**ROW, "age": [41]}, "age", "a number or null", "array of 1"),
        ({**ROW, "city": ["Bern"]}, "city", "a string or null", "array of 1"),
        ({**ROW, "city": {}}, "city", "a string or null", "object"),
        ({**ROW, "age": 1e300}, "age", "a finite 32-bit float, or null", "number 1e+300"),
        ({**ROW, "agee": 1}, "agee", "one of age, yearly income, city", "agee"),
    ],
)
async def test_a_wrong_value_is_named(client: httpx.AsyncClient, row: dict, column: str, expected: str, got: str):
    answer = await predict(client, ROW, row)
    body = answer.json()
    assert answer.status_code == 400
    assert (body["column"], body["expected"], body["got"]) == (column, expected, got)
    assert body["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"{}",
        b'{"rows": {}}',
        b'{"rows": []}',
        b'{"rows": [7]}',
        b'{"rows": [null]}',
        b"\xff\xfe",
        b'{"rows": [{"age": 1' + b"0" * 400 + b"}]}",
        b'{"rows": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
async def test_what_is_not_a_request_gets_a_sentence(client: httpx.AsyncClient, body: bytes):
    answer = await client.post(PATH, content=body)
    assert answer.status_code == 400
    assert len(answer.json()["error"]) > 10


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
async def test_nan_and_infinity_are_not_json_and_the_answer_says_what_to_write(client: httpx.AsyncClient, word: str):
    answer = await client.post(PATH, content=f'{{"rows": [{{"age": {word}}}]}}')
    assert answer.status_code == 400
    assert "write null for a missing value" in answer.json()["error"]


async def test_too_many_rows_are_refused_with_the_limit(client: httpx.AsyncClient):
    answer = await client.post(PATH, content=b'{"rows": [' + b"{}," * 100_000 + b"{}]}")
    assert answer.status_code == 413
    assert answer.json()["expected"] == "at most 100000 rows"


async def test_many_rows_are_answered_in_order(client: httpx.AsyncClient):
    rows = [{**ROW, "age": -age} for age in range(2000)]
    body = (await predict(client, *rows)).json()
    assert [entry["yes"] for entry in body["probabilities"]] == [
        pytest.approx(probability(-age, 1), abs=1e-6) for age in range(2000)
    ]


async def test_an_answer_that_is_no_number_is_null(regression, make_app, monkeypatch):
    run = type(regression).run

    def not_a_number(self, batch):
        outputs = run(self, batch)
        return type(outputs)(outputs.prediction * math.nan, None)

    monkeypatch.setattr(type(regression), "run", not_a_number)
    async with connect(make_app(regression)) as client:
        assert (await predict(client, ROW)).json()["predictions"] == [None]
