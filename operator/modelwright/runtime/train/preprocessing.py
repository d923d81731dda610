"""From columns to one row of float32 features: impute, scale, encode. Learnt by numpy, and written down as ONNX.

scikit-learn's `SimpleImputer`, `StandardScaler` and `OneHotEncoder` give the same features, and tests hold these to
them. Importing it takes a second of CPU, a third of what a pod needs until its first step, at each of its starts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from modelwright.api.artifacts import ColumnKind, InputColumn
from modelwright.runtime.train.columns import Floats

MAX_CATEGORIES = 100
"""The most frequent ones; a rarer or a new one is encoded as none of them."""
FARTHEST = np.float32(1e6)
"""Deviations from the mean that count. A value beyond them, such as the -3.4e38 that stands for none in rasters, would
be more than float32 holds where it is scaled, and no number in the network."""
TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
_FEATURES = "features"


@dataclass(frozen=True)
class Scaling:
    """Standard scores: what is subtracted from each Numeric column, and what it is divided by; float32 [columns]."""

    means: Floats
    deviations: Floats
    """1 for a column without a spread."""


@dataclass(frozen=True)
class Preprocessor:
    """A fitted transformation of columns into features: those of the Numeric columns, then those of the others.

    What it has learnt is float32, as in the graph: the mean of times, years or prices is large beside their spread, and
    both must subtract the very same one.
    """

    columns: tuple[InputColumn, ...]
    medians: Floats
    """[Numeric columns]: what a missing value is taken for."""
    scaling: Scaling | None
    categories: tuple[tuple[str, ...], ...]
    """Of each Categorical column, in sorted order: a feature each."""

    def transform(self, features: Any) -> Floats:
        """Return the features of some rows: float32 [rows, features]."""
        numeric, textual = _parts(self.columns)
        parts = []
        if numeric:
            parts.append(self._numbers(_stacked(features, numeric)))
        parts += [_one_hot(features[each.name], known) for each, known in zip(textual, self.categories, strict=True)]
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def graph(self) -> onnx.ModelProto:
        """Return the same transformation as ONNX: an input of shape [rows, 1] per column, one output of features."""
        types = {ColumnKind.NUMERIC: TensorProto.FLOAT, ColumnKind.CATEGORICAL: TensorProto.STRING}
        inputs = [
            helper.make_tensor_value_info(column.input, types[column.kind], ["rows", 1]) for column in self.columns
        ]
        numeric, textual = _parts(self.columns)
        nodes, weights, parts = [], [], []
        if numeric:
            nodes += list(self._number_nodes([column.input for column in numeric]))
            weights += list(self._weights())
            parts.append(nodes[-1].output[0])
        for column, known in zip(textual, self.categories, strict=True):
            nodes += list(_one_hot_nodes(column.input, known))
            parts.append(nodes[-1].output[0])
        nodes.append(helper.make_node("Concat", parts, [_FEATURES], axis=1))
        width = self.medians.size + sum(map(len, self.categories))
        outputs = [helper.make_tensor_value_info(_FEATURES, TensorProto.FLOAT, ["rows", width])]
        graph = helper.make_graph(nodes, "preprocessing", inputs, outputs, weights)
        sets = [helper.make_opsetid(domain, version) for domain, version in TARGET_OPSET.items()]
        return helper.make_model(graph, opset_imports=sets)

    def _numbers(self, values: Floats) -> Floats:
        known = _imputed(values, self.medians)
        if self.scaling is None:
            return known
        with np.errstate(over="ignore"):
            scaled = (known - self.scaling.means) / self.scaling.deviations
        bounded: Floats = np.clip(scaled, -FARTHEST, FARTHEST)
        return bounded

    def _number_nodes(self, inputs: list[str]) -> Iterator[onnx.NodeProto]:
        yield helper.make_node("Concat", inputs, ["numbers"], axis=1)
        yield helper.make_node("IsNaN", ["numbers"], ["missing"])
        yield helper.make_node("Where", ["missing", "medians", "numbers"], ["known"])
        if self.scaling is not None:
            yield helper.make_node("Sub", ["known", "means"], ["centred"])
            yield helper.make_node("Div", ["centred", "deviations"], ["scaled"])
            yield helper.make_node("Clip", ["scaled", "least", "most"], ["bounded"])

    def _weights(self) -> Iterator[onnx.TensorProto]:
        yield numpy_helper.from_array(self.medians, "medians")
        if self.scaling is not None:
            yield numpy_helper.from_array(self.scaling.means, "means")
            yield numpy_helper.from_array(self.scaling.deviations, "deviations")
            yield numpy_helper.from_array(-FARTHEST, "least")
            yield numpy_helper.from_array(FARTHEST, "most")


def fit(features: Any, columns: tuple[InputColumn, ...], *, scale: bool) -> Preprocessor:
    """Learn medians, scales and categories from the training rows, a pandas DataFrame with the columns' names."""
    numeric, textual = _parts(columns)
    # One after the other: in double precision, all of them at once may be more than there is memory for.
    numbers = [_values(features, column) for column in numeric]
    medians = np.array([_median(values) for values in numbers], dtype=np.float32)
    scaling = None
    if numeric and scale:
        found = [_standard(_imputed(values, median)) for values, median in zip(numbers, medians, strict=True)]
        means, deviations = np.array(found, dtype=np.float32).T
        scaling = Scaling(means, deviations)
    categories = tuple(tuple(frequent(features[column.name])) for column in textual)
    return Preprocessor(columns, medians, scaling, categories)


def frequent(column: Any) -> list[str]:
    """Return the most frequent texts of a column in sorted order; ties are broken by the text itself."""
    counts = column.value_counts()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return sorted(str(text) for text, _ in ranked[:MAX_CATEGORIES])


def _median(values: Floats) -> float:
    known = values[~np.isnan(values)]
    # In double precision: the sum of the two in the middle may be more than float32 holds.
    return float(np.median(known.astype(np.float64))) if known.size else 0.0


def _imputed(values: Floats, medians: Floats) -> Floats:
    return np.where(np.isnan(values), medians, values)


def _standard(values: Floats) -> tuple[float, float]:
    """Return the mean and the standard deviation of a column, 1 for one that float32 cannot tell from none."""
    # The mean of equal values may differ from them by what was rounded, and that is no spread.
    deviation = 0.0 if values.min() == values.max() else float(np.float32(values.std(dtype=np.float64)))
    return float(values.mean(dtype=np.float64)), deviation or 1.0


def _one_hot(column: Any, categories: tuple[str, ...]) -> Floats:
    """Return a column for each category, 1 where a row has it; a category that is not among them has none."""
    found: npt.NDArray[np.intp] = pd.Index(categories, dtype=object).get_indexer(column)
    return np.asarray(found[:, None] == np.arange(len(categories)), dtype=np.float32)


def _one_hot_nodes(name: str, categories: tuple[str, ...]) -> Iterator[onnx.NodeProto]:
    encoded = f"{name}_encoded"
    yield helper.make_node(
        "OneHotEncoder", [name], [encoded], domain="ai.onnx.ml", cats_strings=list(categories), zeros=1
    )
    # Of each row one value was encoded: [rows, 1, categories].
    yield helper.make_node("Flatten", [encoded], [f"{name}_flat"], axis=1)


def _stacked(features: Any, columns: list[InputColumn]) -> Floats:
    return np.stack([_values(features, column) for column in columns], axis=1)


def _values(features: Any, column: InputColumn) -> Floats:
    return np.asarray(features[column.name].to_numpy(), dtype=np.float32)


def _parts(columns: tuple[InputColumn, ...]) -> tuple[list[InputColumn], list[InputColumn]]:
    """Return the Numeric columns, and the Categorical ones."""
    numeric = [column for column in columns if column.kind is ColumnKind.NUMERIC]
    return numeric, [column for column in columns if column.kind is ColumnKind.CATEGORICAL]
