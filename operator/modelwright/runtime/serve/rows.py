"""The plain row form, for people: `{"rows": [{"age": 41, "city": "Bern"}]}`."""

from collections.abc import Mapping
from typing import Any

import orjson

from modelwright.runtime.serve.batch import Batch, check_rows, unknown_column
from modelwright.runtime.serve.errors import RequestError, describe
from modelwright.runtime.serve.model import Model, Outputs

_ABSENT = object()


def parse_json(body: bytes | memoryview) -> dict[str, Any]:
    """Return a JSON object. Raises RequestError."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "" if not _has_nan(body) else "; JSON has no NaN or Infinity: write null for a missing value"
        raise RequestError(f"the body is not JSON: {error}{hint}", expected="JSON", got="other text") from error
    if not isinstance(document, dict):
        raise RequestError("the body is not a JSON object", expected="object", got=describe(document))
    return document


def decode(body: bytes, model: Model) -> Batch:
    """Return the rows of a request. Raises RequestError."""
    rows = parse_json(body).get("rows")
    if not isinstance(rows, list):
        raise RequestError(
            'the body has no "rows"', expected='{"rows": [{column: value, ...}, ...]}', got=describe(rows)
        )
    check_rows(len(rows))
    _check_names(rows, model)
    return model.layout.batch({name: _column(name, rows, model) for name in model.layout.columns})


def encode(model: Model, outputs: Outputs) -> bytes:
    """Return the answer: predictions, and for classification the probability of every class."""
    answer: dict[str, Any] = {
        "model": model.name,
        "version": str(model.version),
        "predictions": outputs.prediction.tolist(),
    }
    if outputs.probabilities is not None:
        classes = model.signature.classes
        answer["probabilities"] = [dict(zip(classes, row, strict=True)) for row in outputs.probabilities.tolist()]
    return orjson.dumps(answer)


def _check_names(rows: list[Any], model: Model) -> None:
    known = model.layout.columns
    for number, row in enumerate(rows):
        if type(row) is not dict:
            raise RequestError(f"row {number} is not an object", expected="{column: value, ...}", got=describe(row))
        if not row.keys() <= known.keys():
            raise unknown_column(next(name for name in row if name not in known), known)


def _column(name: str, rows: list[Mapping[str, Any]], model: Model) -> list[Any]:
    if name in model.optional:
        return [row.get(name) for row in rows]
    values = [row.get(name, _ABSENT) for row in rows]
    if _ABSENT in values:
        raise RequestError(
            f"row {values.index(_ABSENT)} has no column {name}: write null if its value is missing",
            column=name,
            expected="a value or null",
            got="no such column",
        )
    return values


def _has_nan(body: bytes | memoryview) -> bool:
    text = bytes(body)
    return b"NaN" in text or b"Infinity" in text
