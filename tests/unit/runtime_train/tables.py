"""Real data of scikit-learn's, made awkward: missing values, text, names that ONNX cannot carry."""

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from modelwright.api.recipe import LightGBMParameters, NeuralNetworkParameters, TabularRecipe
from modelwright.api.trainingjob import Dataset
from modelwright.runtime.train.columns import Table, gather
from modelwright.runtime.train.problem import Split, prepare

DATASET = Dataset(uri="s3://bucket/data.csv")


@cache
def cancer() -> Any:
    """Binary: 569 rows, 30 measures with spaces in their names, one with missing values, and one column of text."""
    frame = load_breast_cancer(as_frame=True).frame.copy()
    frame["diagnosis"] = np.where(frame.pop("target") == 1, "benign", "malignant")
    frame['site "x"/y'] = np.random.default_rng(0).choice(["left", "right", "né", ""], len(frame))
    frame.iloc[::9, 0] = np.nan
    return frame


@cache
def wine() -> Any:
    """Three classes, named 0, 1 and 2: 178 rows."""
    return load_wine(as_frame=True).frame


@cache
def diabetes() -> Any:
    """Regression: 442 rows."""
    return load_diabetes(as_frame=True).frame


def as_csv(frame: Any) -> bytes:
    return frame.to_csv(index=False).encode()


def as_parquet(frame: Any) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def table_of(*frames: Any) -> Table:
    return gather([pa.Table.from_pandas(frame, preserve_index=False) for frame in frames], "digest")


def csv_table(frame: Any) -> Table:
    return gather([pyarrow.csv.read_csv(io.BytesIO(as_csv(frame)))], "digest")


def recipe_for(task: str, target: str, algorithm: str = "NeuralNetwork", **network: Any) -> TabularRecipe:
    return TabularRecipe(
        task=task,
        target=target,
        algorithm=algorithm,
        neural_network=NeuralNetworkParameters(**{"epochs": 5, "batch_size": 64, "hidden_units": 16} | network),
        light_gbm=LightGBMParameters(num_trees=30),
    )


def split_of(frame: Any, recipe: TabularRecipe, dataset: Dataset = DATASET) -> Split:
    return prepare(csv_table(frame), recipe, dataset, warn=lambda _: None)


def mixed(rows: int, seed: int = 0, columns: Sequence[str] = ("n", "text", "target")) -> Any:
    generator = np.random.default_rng(seed)
    whole = {
        "n": generator.normal(size=rows).round(3),
        "text": generator.choice(["a", "b", "c", ""], rows),
        "target": generator.choice(["no", "yes"], rows),
    }
    return pd.DataFrame({name: whole[name] for name in columns})
