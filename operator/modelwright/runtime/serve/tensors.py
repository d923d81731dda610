"""Tensors of the Open Inference Protocol v2, in JSON and in the binary tensor data extension."""

import struct
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.runtime.serve.errors import RequestError, describe

FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
INTEGERS = {
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
}
NUMERIC = (*FLOATS, *INTEGERS, "BOOL")
"""Datatypes that a numeric column takes; all become float32."""
TEXTUAL = ("BYTES", *INTEGERS, "BOOL")
"""Datatypes that a categorical column takes; other values are written out as training reads them."""

_JSON_TYPES: dict[str, set[type]] = {
    **{name: {int, float, type(None)} for name in FLOATS},
    **{name: {int} for name in INTEGERS},
    "BOOL": {bool},
    "BYTES": {str, type(None)},
}
_JSON_NAMES = {
    **dict.fromkeys(FLOATS, "numbers or null"),
    **dict.fromkeys(INTEGERS, "whole numbers"),
    "BOOL": "booleans",
    "BYTES": "strings or null",
}
_BINARY = {**FLOATS, **INTEGERS, "BOOL": "<u1"}
_LENGTH = struct.Struct("<I")


def from_json(column: str, datatype: str, data: object, rows: int) -> list[Any]:
    """Return JSON tensor data, flat or nested as [[x], [y]], as a list of `rows` values. Raises RequestError."""
    if not isinstance(data, list):
        raise _wrong(column, "data as an array", describe(data))
    nested = data and type(data[0]) is list and all(type(item) is list for item in data)
    values: list[Any] = list(chain.from_iterable(data)) if nested else data
    if len(values) != rows:
        raise _wrong(column, f"{rows} values, as the shape says", f"{len(values)} values")
    if not set(map(type, values)) <= _JSON_TYPES[datatype]:
        found = next(value for value in values if type(value) not in _JSON_TYPES[datatype])
        raise _wrong(column, f"{datatype} data: {_JSON_NAMES[datatype]}", describe(found))
    if datatype in INTEGERS:
        limits = np.iinfo(INTEGERS[datatype])
        if min(values, default=0) < limits.min or max(values, default=0) > limits.max:
            raise _wrong(column, f"{datatype} data from {limits.min} to {limits.max}", "a number outside")
    return values


def from_binary(column: str, datatype: str, raw: memoryview, rows: int) -> NDArray[Any] | list[str]:
    """Return raw tensor data, little-endian in row order, as `rows` values. Raises RequestError."""
    if datatype == "BYTES":
        return _strings(column, raw, rows)
    dtype: np.dtype[Any] = np.dtype(_BINARY[datatype])
    if len(raw) != rows * dtype.itemsize:
        raise _wrong(column, f"{rows * dtype.itemsize} bytes: {rows} values of {datatype}", f"{len(raw)} bytes")
    return np.frombuffer(raw, dtype=dtype) != 0 if datatype == "BOOL" else np.frombuffer(raw, dtype=dtype)


def to_binary(values: NDArray[Any]) -> bytes:
    """Return an output tensor, float32 or strings, as raw data."""
    if values.dtype == np.float32:
        return values.astype("<f4", copy=False).tobytes()
    encoded = (str(value).encode() for value in values.ravel())
    return b"".join(_LENGTH.pack(len(text)) + text for text in encoded)


def _strings(column: str, raw: memoryview, rows: int) -> list[str]:
    values: list[str] = []
    position = 0
    while position < len(raw):
        if position + _LENGTH.size > len(raw):
            raise _wrong(column, "4 bytes of length before every string", "fewer bytes")
        start = position + _LENGTH.size
        position = start + _LENGTH.unpack_from(raw, position)[0]
        if position > len(raw):
            raise _wrong(column, "strings as long as their lengths say", "fewer bytes")
        try:
            values.append(str(raw[start:position], "utf-8"))
        except UnicodeDecodeError as error:
            raise _wrong(column, "strings in UTF-8", "other bytes") from error
    if len(values) != rows:
        raise _wrong(column, f"{rows} strings, as the shape says", f"{len(values)} strings")
    return values


def _wrong(column: str, expected: str, got: str) -> RequestError:
    return RequestError(f"column {column}: expected {expected}, got {got}", column=column, expected=expected, got=got)
