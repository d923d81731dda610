"""From columns to one row of float32 features: impute, scale, encode. Fitted by scikit-learn, carried by ONNX."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelwright.api.artifacts import ColumnKind, InputColumn
from modelwright.runtime.train.columns import Floats

MAX_CATEGORIES = 100
"""The most frequent ones; a rarer or a new one is encoded as none of them."""
TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}


@dataclass(frozen=True)
class Preprocessor:
    """A fitted transformation of columns into features."""

    transformer: Any
    columns: tuple[InputColumn, ...]

    def transform(self, features: Any) -> Floats:
        """Return the features of some rows: float32 [rows, features]."""
        renamed = features[[column.name for column in self.columns]].set_axis(
            [column.input for column in self.columns], axis=1
        )
        return np.ascontiguousarray(self.transformer.transform(renamed), dtype=np.float32)

    def graph(self) -> onnx.ModelProto:
        """Return the same transformation as ONNX: an input of shape [rows, 1] per column, one output of features."""
        # Only one process of the gang comes here, and only at the end.
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType

        types = {ColumnKind.NUMERIC: FloatTensorType, ColumnKind.CATEGORICAL: StringTensorType}
        inputs = [(column.input, types[column.kind]([None, 1])) for column in self.columns]
        model: onnx.ModelProto = convert_sklearn(self.transformer, "preprocessing", inputs, target_opset=TARGET_OPSET)
        return model


def fit(features: Any, columns: tuple[InputColumn, ...], *, scale: bool) -> Preprocessor:
    """Learn medians, scales and categories from the training rows."""
    renamed = features.set_axis([column.input for column in columns], axis=1)
    numeric = [column.input for column in columns if column.kind is ColumnKind.NUMERIC]
    textual = [column.input for column in columns if column.kind is ColumnKind.CATEGORICAL]
    steps: list[tuple[str, Any, list[str]]] = []
    if numeric:
        steps.append(("numeric", _numeric(scale), numeric))
    if textual:
        categories = [frequent(renamed[name]) for name in textual]
        encoder = OneHotEncoder(categories=categories, handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        steps.append(("categorical", encoder, textual))
    transformer = ColumnTransformer(steps, sparse_threshold=0)
    transformer.fit(renamed)
    if numeric and scale:
        _round_to_float32(transformer.named_transformers_["numeric"].named_steps["scale"])
    return Preprocessor(transformer, columns)


def frequent(column: Any) -> list[str]:
    """Return the most frequent texts of a column in sorted order; ties are broken by the text itself."""
    counts = column.value_counts()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return sorted(str(text) for text, _ in ranked[:MAX_CATEGORIES])


def _numeric(scale: bool) -> Pipeline:
    steps: list[tuple[str, Any]] = [("impute", SimpleImputer(strategy="median", keep_empty_features=True))]
    if scale:
        steps.append(("scale", StandardScaler()))
    return Pipeline(steps)


def _round_to_float32(scaler: Any) -> None:
    # The graph keeps these as float32. Rounding here too makes both subtract the very same mean, which matters for
    # columns whose values are large beside their spread: times, years, prices.
    scaler.mean_ = scaler.mean_.astype(np.float32).astype(np.float64)
    scaler.scale_ = scaler.scale_.astype(np.float32).astype(np.float64)
