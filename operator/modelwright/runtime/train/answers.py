"""Asking a registered graph: the new version before it is registered, and the one in use, in the same way."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from modelwright.api.artifacts import ColumnKind, InputColumn, Signature
from modelwright.runtime.cpus import available_cpus
from modelwright.runtime.failure import DataError
from modelwright.runtime.train.columns import Floats, labels

_CHUNK = 65536


class GraphModel:
    """An ONNX graph and the signature that says how to use it."""

    def __init__(self, graph: bytes | Path, signature: Signature) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cpus()
        source = graph if isinstance(graph, bytes) else str(graph)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.signature = signature

    def answer(self, features: Any) -> tuple[npt.NDArray[Any], Floats]:
        """Return predictions [rows, 1] and scores (probabilities [rows, classes], or the estimates again).

        Raises `DataError` ColumnNotFound when the rows lack a column.
        """
        parts = [self._answer_chunk(features.iloc[start : start + _CHUNK]) for start in range(0, len(features), _CHUNK)]
        predictions, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        return predictions, scores

    def _answer_chunk(self, features: Any) -> tuple[npt.NDArray[Any], Floats]:
        feed = {column.input: _tensor(features, column) for column in self.signature.inputs}
        names = [self.signature.prediction_output]
        if self.signature.probabilities_output is not None:
            names.append(self.signature.probabilities_output)
        answers = self._session.run(names, feed)
        return answers[0], answers[-1]


def missing_columns(signature: Signature, kinds: dict[str, ColumnKind]) -> tuple[str, ...]:
    """Return the inputs that a data set cannot fill: absent, or text where the model reads numbers."""
    return tuple(
        column.name
        for column in signature.inputs
        if column.name not in kinds
        or (column.kind is ColumnKind.NUMERIC and kinds[column.name] is ColumnKind.CATEGORICAL)
    )


def _tensor(features: Any, column: InputColumn) -> npt.NDArray[Any]:
    if column.name not in features:
        raise DataError("ColumnNotFound", f"There is no column {column.name}, which the model reads")
    values = features[column.name]
    if column.kind is ColumnKind.NUMERIC:
        return np.asarray(values.to_numpy(dtype=np.float32)).reshape(-1, 1)
    if values.dtype == np.float32:
        return labels(values.to_numpy(dtype=np.float32)).reshape(-1, 1)
    return np.asarray(values.to_numpy(dtype=object)).reshape(-1, 1)
