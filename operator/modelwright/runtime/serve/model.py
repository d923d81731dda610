"""One registered version in memory, ready to answer."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import ValidationError

from modelwright.api.artifacts import SIGNATURE_FILE, ColumnKind, Reference, ReferenceColumn, Signature
from modelwright.api.recipe import Task
from modelwright.runtime.serve.batch import Batch, Layout
from modelwright.runtime.serve.errors import InferenceError, ModelLoadError

_TENSOR_TYPES = {ColumnKind.NUMERIC: "tensor(float)", ColumnKind.CATEGORICAL: "tensor(string)"}
_WARM_ROWS = (1, 64)
_WARM_RUNS = 3
_ERRORS_ONLY = 3


@dataclass(frozen=True)
class Outputs:
    """What the model said about some rows."""

    prediction: NDArray[Any]
    """[rows]: float32 for regression, strings for classification."""
    probabilities: NDArray[np.float32] | None
    """[rows, classes]."""


class Model:
    """A graph with its signature."""

    def __init__(
        self, name: str, version: int, signature: Signature, reference: Reference, session: ort.InferenceSession
    ) -> None:
        self.name = name
        self.version = version
        self.signature = signature
        self.reference = reference
        self.layout = Layout(signature.inputs)
        missing = {column.name for column in reference.columns if column.counts and column.counts[-1] > 0}
        self.optional = frozenset(missing & self.layout.columns.keys())
        """Columns that had missing values in training: rows may leave them out."""
        self._session = session
        names = (signature.prediction_output, signature.probabilities_output)
        self.outputs = tuple(name for name in names if name is not None)
        self._first_row_seconds = 0.0
        self._row_seconds = 0.0

    def run(self, batch: Batch) -> Outputs:
        """Return the model's answer. Raises InferenceError."""
        shape = (batch.rows, 1)
        feeds = {column.input: batch.numeric[i].reshape(shape) for i, column in enumerate(self.layout.numeric)}
        feeds |= {column.input: batch.text[i].reshape(shape) for i, column in enumerate(self.layout.text)}
        try:
            results = self._session.run(self.outputs, feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise InferenceError(f"the model failed on {batch.rows} rows: {type(error).__name__}") from error
        probabilities = results[1].reshape(batch.rows, -1) if len(results) > 1 else None
        return Outputs(results[0].reshape(-1), probabilities)

    def seconds(self, rows: int) -> float:
        """Return the expected time of `run`, from what was measured while warming up."""
        return self._first_row_seconds + (rows - 1) * self._row_seconds

    def warm_up(self) -> None:
        """Run typical rows, so that the first caller does not wait for lazy work, and learn how long rows take.

        Raises ModelLoadError when the graph does not do what the signature says.
        """
        row = self.typical_row()
        seconds = []
        for rows in _WARM_ROWS:
            batch = self.layout.batch({name: [value] * rows for name, value in row.items()})
            seconds.append(min(self._timed(batch) for _ in range(_WARM_RUNS)))
        self._first_row_seconds = seconds[0]
        self._row_seconds = max(0.0, (seconds[1] - seconds[0]) / (_WARM_ROWS[1] - _WARM_ROWS[0]))

    def typical_row(self) -> dict[str, Any]:
        """Return a row from the middle of the training data, by column name."""
        known = {column.name: column for column in self.reference.columns}
        return {name: _typical(known.get(name), column.kind) for name, column in self.layout.columns.items()}

    def _timed(self, batch: Batch) -> float:
        start = time.perf_counter()
        try:
            outputs = self.run(batch)
        except (InferenceError, ValueError) as error:
            raise ModelLoadError(
                f"{self.name} version {self.version} does not run: {error.__cause__ or error}"
            ) from error
        self._check(outputs, batch.rows)
        return time.perf_counter() - start

    def _check(self, outputs: Outputs, rows: int) -> None:
        classes = len(self.signature.classes)
        kind = np.dtype(object if self.signature.task is Task.CLASSIFICATION else np.float32)
        if outputs.prediction.dtype != kind:
            raise ModelLoadError(f"output {self.outputs[0]} has the type {outputs.prediction.dtype}, not {kind}")
        if outputs.prediction.shape != (rows,):
            raise ModelLoadError(f"output {self.outputs[0]} has {outputs.prediction.size} values for {rows} rows")
        if outputs.probabilities is not None and outputs.probabilities.shape != (rows, classes):
            raise ModelLoadError(f"output {self.outputs[1]} has not one probability for each of {classes} classes")


def load(name: str, version: int, directory: Path, threads: int) -> Model:
    """Return the model that lies in a directory, not yet warm. Raises ModelLoadError."""
    try:
        signature = Signature.model_validate_json((directory / SIGNATURE_FILE).read_bytes())
        reference = Reference.model_validate_json((directory / "reference.json").read_bytes())
        session = _session(directory / "model.onnx", threads)
    except OSError as error:
        raise ModelLoadError(f"{name} version {version} lacks the file {Path(error.filename or '').name}") from error
    except ValidationError as error:
        raise ModelLoadError(f"{name} version {version} has an invalid {error.title}: {_first(error)}") from error
    _compare(signature, session)
    return Model(name, version, signature, reference, session)


def _session(path: Path, threads: int) -> ort.InferenceSession:
    path.stat()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Idle threads that spin burn the CPU that the container is billed and throttled for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise ModelLoadError(f"{path.name} cannot be loaded: {' '.join(str(error).split())[:300]}") from error


def _compare(signature: Signature, session: ort.InferenceSession) -> None:
    inputs = {entry.name: entry.type for entry in session.get_inputs()}
    for column in signature.inputs:
        if inputs.pop(column.input, None) != _TENSOR_TYPES[column.kind]:
            raise ModelLoadError(
                f"the graph has no {column.kind.lower()} input {column.input} for column {column.name}"
            )
    if inputs:
        raise ModelLoadError(f"the signature has no column for the graph's input {next(iter(inputs))}")
    outputs = {entry.name for entry in session.get_outputs()}
    for output in (signature.prediction_output, signature.probabilities_output):
        if output is not None and output not in outputs:
            raise ModelLoadError(f"the graph has no output {output}")


def _typical(column: ReferenceColumn | None, kind: ColumnKind) -> Any:
    if kind is ColumnKind.NUMERIC:
        return column.edges[len(column.edges) // 2] if column is not None and column.edges else 0.0
    if column is None or not column.categories:
        return ""
    return max(zip(column.counts, column.categories, strict=False))[1]


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
