"""Open Inference Protocol v2 over REST: inference requests and answers, and the metadata of server and model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

import modelwright
from modelwright.api.artifacts import ColumnKind, InputColumn
from modelwright.api.recipe import Task
from modelwright.runtime.serve.batch import Batch, Values
from modelwright.runtime.serve.errors import RequestError, describe
from modelwright.runtime.serve.model import Model, Outputs
from modelwright.runtime.serve.rows import parse_json
from modelwright.runtime.serve.tensors import NUMERIC, TEXTUAL, from_binary, from_json, to_binary

_DATATYPES = {ColumnKind.NUMERIC: NUMERIC, ColumnKind.CATEGORICAL: TEXTUAL}


@dataclass(frozen=True)
class InferRequest:
    """A checked inference request."""

    batch: Batch
    id: str | None
    outputs: tuple[tuple[str, bool], ...]
    """The outputs asked for, and whether each is to be binary."""


def decode(body: bytes, header_length: int | None, model: Model) -> InferRequest:
    """Return the request of a body; `header_length` is the size of its JSON part when raw tensors follow.

    Raises RequestError.
    """
    length = len(body) if header_length is None else header_length
    if length > len(body):
        raise RequestError("Inference-Header-Content-Length is larger than the body", got=f"{len(body)} bytes")
    document = parse_json(memoryview(body)[:length])
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise RequestError("id is not a string", expected="string", got=describe(request_id))
    return InferRequest(
        batch=model.layout.batch(_columns(document.get("inputs"), memoryview(body)[length:], model)),
        id=request_id,
        outputs=_requested(document, model),
    )


def encode(request: InferRequest, model: Model, outputs: Outputs) -> tuple[bytes, int | None]:
    """Return the body of the answer, and the size of its JSON part when raw tensors follow."""
    tensors: list[dict[str, Any]] = []
    raws: list[bytes] = []
    for name, binary in request.outputs:
        values = outputs.probabilities if name == model.signature.probabilities_output else outputs.prediction
        if values is None:
            continue
        if binary:
            raws.append(to_binary(values))
        tensors.append(_tensor(name, values, raws[-1] if binary else None))
    header = orjson.dumps(
        {
            "model_name": model.name,
            "model_version": str(model.version),
            **({"id": request.id} if request.id is not None else {}),
            "outputs": tensors,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    return b"".join((header, *raws)), len(header) if raws else None


def server_metadata() -> dict[str, Any]:
    """Return what GET /v2 says."""
    return {"name": "modelwright", "version": modelwright.__version__, "extensions": ["binary_tensor_data"]}


def model_metadata(model: Model) -> dict[str, Any]:
    """Return what GET /v2/models/{name} says: one tensor for each column, by the user's name."""
    signature = model.signature
    prediction = "BYTES" if signature.task is Task.CLASSIFICATION else "FP32"
    outputs: list[dict[str, Any]] = [{"name": signature.prediction_output, "datatype": prediction, "shape": [-1, 1]}]
    if signature.probabilities_output is not None:
        shape = [-1, len(signature.classes)]
        outputs.append({"name": signature.probabilities_output, "datatype": "FP32", "shape": shape})
    return {
        "name": model.name,
        "versions": [str(model.version)],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": name, "datatype": "FP32" if column.kind is ColumnKind.NUMERIC else "BYTES", "shape": [-1, 1]}
            for name, column in model.layout.columns.items()
        ],
        "outputs": outputs,
    }


def _columns(inputs: object, raw: memoryview, model: Model) -> dict[str, Values]:
    if not isinstance(inputs, list) or not inputs:
        raise RequestError('the body has no "inputs"', expected="one tensor for each column", got=describe(inputs))
    columns: dict[str, Values] = {}
    rows: int | None = None
    position = 0
    for tensor in inputs:
        column = _input_column(tensor, columns, model)
        count = _row_count(column.name, tensor.get("shape"), rows)
        datatype = _datatype(column, tensor.get("datatype"))
        size = _binary_size(column.name, tensor)
        if size is None:
            columns[column.name] = from_json(column.name, datatype, tensor.get("data"), count)
        else:
            if position + size > len(raw):
                raise RequestError(
                    f"the body ends before the data of column {column.name}",
                    column=column.name,
                    expected=f"{size} bytes",
                    got=f"{len(raw) - position} bytes",
                )
            columns[column.name] = from_binary(column.name, datatype, raw[position : position + size], count)
            position += size
        rows = count
    _check_complete(columns, model, unread=len(raw) - position)
    return columns


def _input_column(tensor: object, seen: Mapping[str, Values], model: Model) -> InputColumn:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise RequestError("an input has no name", expected="{name, shape, datatype, data}", got=describe(tensor))
    column = model.layout.column(tensor["name"])
    if column.name in seen:
        raise RequestError(f"column {column.name} is there twice", column=column.name, expected="one tensor", got="two")
    return column


def _row_count(name: str, shape: object, rows: int | None) -> int:
    if rows is not None and (shape == [rows] or shape == [rows, 1]):
        return rows
    expected = "[N] or [N, 1]" if rows is None else f"[{rows}] or [{rows}, 1], as the tensors before it"
    match shape:
        case [int(count)] | [int(count), 1] if count >= 0 and rows is None:
            return count
        case _:
            shown = str(shape)[:60]
            raise RequestError(
                f"column {name}: expected shape {expected}, got {shown}", column=name, expected=expected, got=shown
            )


def _datatype(column: InputColumn, datatype: object) -> str:
    allowed = _DATATYPES[column.kind]
    if not isinstance(datatype, str) or datatype not in allowed:
        raise RequestError(
            f"column {column.name} is {column.kind.lower()}: expected datatype {' or '.join(allowed)}, "
            f"got {describe(datatype)}",
            column=column.name,
            expected=" or ".join(allowed),
            got=describe(datatype),
        )
    return datatype


def _binary_size(name: str, tensor: Mapping[str, Any]) -> int | None:
    if "parameters" not in tensor:
        return None
    size = _parameters(tensor).get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise RequestError(
            f"column {name}: binary_data_size is not a size", column=name, expected="bytes", got=describe(size)
        )
    return size


def _check_complete(columns: dict[str, Values], model: Model, unread: int) -> None:
    for name in model.layout.columns:
        if name not in columns:
            raise RequestError(f"column {name} is missing", column=name, expected="one tensor", got="none")
    if unread:
        raise RequestError("the body goes on after the last tensor", expected="no more bytes", got=f"{unread} bytes")


def _requested(document: Mapping[str, Any], model: Model) -> tuple[tuple[str, bool], ...]:
    binary = _parameters(document).get("binary_data_output") is True
    known = model.outputs
    wanted = document.get("outputs")
    if not wanted:
        return tuple((name, binary) for name in known)
    if not isinstance(wanted, list):
        raise RequestError("outputs is not an array", expected="[{name}, ...]", got=describe(wanted))
    return tuple(_output(entry, known, binary) for entry in wanted)


def _output(entry: object, known: tuple[str, ...], binary: bool) -> tuple[str, bool]:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or name not in known:
        raise RequestError(f"the model has no output {describe(name)}", expected=" or ".join(known), got=describe(name))
    return str(name), _parameters(entry).get("binary_data", binary) is True


def _parameters(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = holder.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _tensor(name: str, values: NDArray[Any], raw: bytes | None) -> dict[str, Any]:
    shape = values.shape if values.ndim > 1 else (values.shape[0], 1)
    numeric = values.dtype == np.float32
    tensor: dict[str, Any] = {"name": name, "datatype": "FP32" if numeric else "BYTES", "shape": shape}
    if raw is not None:
        return {**tensor, "parameters": {"binary_data_size": len(raw)}}
    return {**tensor, "data": np.ascontiguousarray(values).reshape(-1) if numeric else values.tolist()}
