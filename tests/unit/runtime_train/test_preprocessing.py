"""Features are those that scikit-learn makes of the same columns, and the graph makes the very same ones."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelwright.api.artifacts import ColumnKind, InputColumn
from modelwright.runtime.train.columns import Floats
from modelwright.runtime.train.preprocessing import FARTHEST, MAX_CATEGORIES, Preprocessor, fit
from modelwright.runtime.train.problem import name_inputs
from tests.unit.runtime_train.tables import cancer, diabetes, mixed, recipe_for, split_of

NUMBERS = arrays(
    np.float32,
    st.tuples(st.integers(2, 40), st.integers(1, 3)),
    elements=st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, width=32)),
)


def columns_of(frame: Any) -> tuple[InputColumn, ...]:
    kinds = {name: ColumnKind.NUMERIC if frame[name].dtype == np.float32 else ColumnKind.CATEGORICAL for name in frame}
    return name_inputs(tuple(frame), kinds)


def sklearns(frame: Any, columns: tuple[InputColumn, ...], *, scale: bool) -> Any:
    """Return what scikit-learn would make of it."""
    numeric = [column.name for column in columns if column.kind is ColumnKind.NUMERIC]
    textual = [column.name for column in columns if column.kind is ColumnKind.CATEGORICAL]
    steps = [SimpleImputer(strategy="median", keep_empty_features=True), *([StandardScaler()] if scale else [])]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    parts = [("numeric", make_pipeline(*steps), numeric), ("textual", encoder, textual)]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0).fit(frame)


def answer(graph: onnx.ModelProto, columns: tuple[InputColumn, ...], frame: Any) -> Floats:
    graph.ir_version = 10
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {column.input: frame[column.name].to_numpy().reshape(-1, 1) for column in columns}
    found: Floats = session.run(None, feed)[0]
    return found


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(
    ("frame", "task", "target"),
    [
        (cancer(), "Classification", "diagnosis"),
        (diabetes(), "Regression", "target"),
        (mixed(300, columns=("text", "target")), "Classification", "target"),
    ],
)
def test_features_are_those_of_scikit_learn(frame: Any, task: str, target: str, *, scale: bool) -> None:
    split = split_of(frame, recipe_for(task, target))
    made = fit(split.train.features, split.columns, scale=scale)
    theirs = sklearns(split.train.features, split.columns, scale=scale)
    for rows in (split.train.features, split.held_out.features):
        features = made.transform(rows)
        assert features.dtype == np.float32
        assert features.flags.c_contiguous
        assert features == pytest.approx(theirs.transform(rows), rel=1e-5, abs=1e-5)
        assert (answer(made.graph(), split.columns, rows) == features).all()


@given(values=NUMBERS, scale=st.booleans())
@settings(max_examples=60)
def test_whatever_the_numbers_are_the_graph_has_the_same_features(values: Floats, scale: bool) -> None:
    frame = pd.DataFrame(values, columns=[f"n{number}" for number in range(values.shape[1])])
    columns = columns_of(frame)
    made = fit(frame, columns, scale=scale)
    features = made.transform(frame)
    assert np.isfinite(features).all()
    assert (answer(made.graph(), columns, frame) == features).all()


def made_of(**columns: list[Any]) -> tuple[Preprocessor, Any]:
    frame = pd.DataFrame(
        {
            name: np.array(values, dtype=object if isinstance(values[0], str) else np.float32)
            for name, values in columns.items()
        }
    )
    return fit(frame, columns_of(frame), scale=True), frame


def test_a_column_without_a_value_is_zero_and_one_with_only_one_value_is_no_reason_to_divide_by_nothing() -> None:
    made, frame = made_of(empty=[np.nan] * 4, same=[0.1] * 4, known=[1.0, 2.0, 3.0, np.nan])
    assert made.transform(frame)[:, :2].tolist() == [[0.0, 0.0]] * 4
    other = frame.assign(same=np.float32(1.1))
    assert made.transform(other)[:, 1] == pytest.approx(np.ones(4))


def test_a_median_is_no_more_than_float32_holds() -> None:
    made, _ = made_of(large=[3e38, 3e38, 1.0, np.nan])
    assert made.medians.tolist() == [np.float32(3e38)]


@pytest.mark.parametrize("odd", [-3.4028234663852886e38, 3e38, 1e30])
def test_a_value_far_beyond_all_others_is_still_a_number_where_it_is_scaled(odd: float) -> None:
    made, frame = made_of(slope=[0.0, 0.1, 0.2, 0.5])
    rows = frame.head(2).assign(slope=np.array([odd, 0.2], dtype=np.float32))
    features = made.transform(rows)
    assert np.isfinite(features).all()
    assert abs(features[0, 0]) == FARTHEST
    assert abs(features[1, 0]) < 1
    assert (answer(made.graph(), made.columns, rows) == features).all()


def test_a_text_that_training_has_not_seen_or_seldom_is_none_of_the_categories() -> None:
    texts = [f"t{number:03d}" for number in range(MAX_CATEGORIES + 1)]
    made, frame = made_of(text=[*texts, *texts[1:]])
    assert made.categories == (tuple(texts[1:]),)
    assert made.transform(frame).sum(axis=1).tolist() == [0.0] + [1.0] * (2 * MAX_CATEGORIES)
    new = frame.head(2).assign(text=np.array(["new", "t001"], dtype=object))
    assert made.transform(new).sum(axis=1).tolist() == [0.0, 1.0]
    assert (answer(made.graph(), made.columns, new) == made.transform(new)).all()
