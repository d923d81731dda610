"""The binary tensor data extension: raw little-endian data after the JSON part."""

import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.runtime.serve.errors import RequestError
from modelwright.runtime.serve.tensors import from_binary, to_binary
from tests.unit.serve.models import probability

PATH = "/v2/models/churn/infer"
AGES = np.array([41, -300], dtype="<f4")
CITIES = b"".join(struct.pack("<I", len(city)) + city for city in (b"Bern", b"Basel"))


def message(parts: list[tuple[str, str, bytes | list[Any]]], **more: Any) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of a request of two rows; bytes go behind the JSON part."""
    inputs = []
    for name, datatype, data in parts:
        tensor: dict[str, Any] = {"name": name, "shape": [2, 1], "datatype": datatype}
        binary = isinstance(data, bytes)
        inputs.append(tensor | ({"parameters": {"binary_data_size": len(data)}} if binary else {"data": data}))
    header = json.dumps({"inputs": inputs, **more}).encode()
    raw = b"".join(data for _, _, data in parts if isinstance(data, bytes))
    return header + raw, {"Inference-Header-Content-Length": str(len(header))}


def whole(**more: Any) -> tuple[bytes, dict[str, str]]:
    parts = [("age", "FP32", AGES.tobytes()), ("yearly income", "FP32", [1.0, None]), ("city", "BYTES", CITIES)]
    return message(parts, **more)


async def send(client: httpx.AsyncClient, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return await client.post(PATH, content=body, headers=headers)


async def test_raw_and_json_tensors_may_be_mixed(client: httpx.AsyncClient):
    answer = await send(client, *whole())
    assert answer.json()["outputs"][0]["data"] == ["yes", "no"]
    assert answer.json()["outputs"][1]["data"][1] == pytest.approx(probability(41, 1))


async def test_all_outputs_come_raw_when_asked(client: httpx.AsyncClient):
    answer = await send(client, *whole(parameters={"binary_data_output": True}))
    length = int(answer.headers["inference-header-content-length"])
    header, raw = json.loads(answer.content[:length]), answer.content[length:]
    sizes = [entry["parameters"]["binary_data_size"] for entry in header["outputs"]]
    assert answer.headers["content-type"] == "application/octet-stream"
    assert sum(sizes) == len(raw)
    assert raw[: sizes[0]] == b"\x03\0\0\0yes\x02\0\0\0no"
    assert np.frombuffer(raw[sizes[0] :], "<f4")[1] == pytest.approx(probability(41, 1))


async def test_one_output_can_be_raw_and_another_json(client: httpx.AsyncClient):
    outputs = [{"name": "prediction"}, {"name": "probabilities", "parameters": {"binary_data": True}}]
    answer = await send(client, *whole(outputs=outputs))
    length = int(answer.headers["inference-header-content-length"])
    prediction, probabilities = json.loads(answer.content[:length])["outputs"]
    assert prediction["data"] == ["yes", "no"]
    assert probabilities["parameters"] == {"binary_data_size": 16}
    assert len(answer.content) == length + 16


@pytest.mark.parametrize(
    ("datatype", "code"),
    [("FP64", "<f8"), ("FP16", "<f2"), ("INT32", "<i4"), ("UINT8", "<u1"), ("BOOL", "<u1")],
)
async def test_every_number_type_is_read(client: httpx.AsyncClient, datatype: str, code: str):
    raw = np.array([1, 0]).astype(code).tobytes()
    answer = await send(client, *message([("age", datatype, raw), ("yearly income", "FP32", [1, 1]),
                                          ("city", "BYTES", ["Bern", "Bern"])]))  # fmt: skip
    assert answer.json()["outputs"][1]["data"][1::2] == [
        pytest.approx(probability(1, 1)), pytest.approx(probability(0, 1)),
    ]  # fmt: skip


async def test_nan_is_a_missing_value_and_infinity_is_refused(client: httpx.AsyncClient):
    rest = [("yearly income", "FP32", [1.0, 1.0]), ("city", "BYTES", CITIES)]
    missing = np.array([np.nan, 41], dtype="<f4").tobytes()
    assert (await send(client, *message([("age", "FP32", missing), *rest]))).status_code == 200
    infinite = np.array([41, np.inf], dtype="<f4").tobytes()
    answer = await send(client, *message([("age", "FP32", infinite), *rest]))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("column age, row 1: expected a finite")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([("age", "FP32", b"\0" * 7)], "8 bytes: 2 values of FP32"),
        ([("city", "BYTES", b"\x01\0\0")], "4 bytes of length before every string"),
        ([("city", "BYTES", b"\x09\0\0\0ab")], "strings as long as their lengths say"),
        ([("city", "BYTES", b"\x01\0\0\0a")], "2 strings, as the shape says"),
        ([("city", "BYTES", b"\x01\0\0\0\xff" * 2)], "strings in UTF-8"),
        ([("city", "BYTES", b"\xff\xff\xff\xff")], "strings as long as their lengths say"),
    ],
)
async def test_raw_data_that_does_not_fit_is_explained(client: httpx.AsyncClient, parts: list, words: str):
    answer = await send(client, *message(parts))
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert answer.json()["column"] == parts[0][0]


async def test_a_body_that_ends_early_or_goes_on_is_refused(client: httpx.AsyncClient):
    body, headers = whole()
    assert "the body ends before the data of column city" in (await send(client, body[:-1], headers)).text
    assert "the body goes on after the last tensor" in (await send(client, body + b"x", headers)).text


@pytest.mark.parametrize("length", ["x", "-1", "99999", "", "9" * 5000])
async def test_a_wrong_header_length_is_refused(client: httpx.AsyncClient, length: str):
    body, _ = whole()
    answer = await send(client, body, {"Inference-Header-Content-Length": length})
    assert answer.status_code == 400


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=20))
def test_strings_survive_the_wire(words: list[str]):
    raw = to_binary(np.array(words, dtype=object))
    assert from_binary("city", "BYTES", memoryview(raw), len(words)) == words


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(1, 4), st.sampled_from(["BYTES", "FP32", "BOOL"]))
def test_no_bytes_break_the_reader(raw: bytes, rows: int, datatype: str):
    fits = len(raw) == rows * {"FP32": 4, "BOOL": 1}.get(datatype, -1)
    try:
        read = len(from_binary("c", datatype, memoryview(raw), rows))
    except RequestError:
        read = 0
    assert read in ({rows} if fits else {0, rows} if datatype == "BYTES" else {0})
