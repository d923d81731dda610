import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelwright.runtime.train.reference import _categorical, describe, numeric
from tests.unit.runtime_train.tables import cancer, diabetes, recipe_for, split_of

floats = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))


@given(arrays.arrays(np.float32, st.integers(0, 200), elements=floats))
def test_every_value_is_counted_once_in_the_bin_that_holds_it(values: np.ndarray) -> None:
    column = numeric("x", values)
    assert len(column.counts) == len(column.edges) + 2
    assert sum(column.counts) == len(values)
    assert column.counts[-1] == np.isnan(values).sum()
    assert list(column.edges) == sorted(set(column.edges))
    bounds = [-np.inf, *column.edges, np.inf]
    for place, count in enumerate(column.counts[:-1]):
        assert count == ((values > bounds[place]) & (values <= bounds[place + 1])).sum()


@given(arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32)))
def test_no_bin_is_empty_in_training(values: np.ndarray) -> None:
    assert all(numeric("x", values).counts[:-1])


def test_many_distinct_values_make_ten_even_bins() -> None:
    column = numeric("x", np.arange(1000, dtype=np.float32))
    assert len(column.edges) == 9
    assert max(column.counts[:-1]) - min(column.counts[:-1]) <= 2


def test_a_constant_has_one_bin() -> None:
    column = numeric("x", np.full(10, 3, dtype=np.float32))
    assert (column.edges, column.counts) == ((), (10, 0))


def test_rare_categories_share_the_last_bin_but_one() -> None:
    values = pd.Series([f"c{i:02d}" for i in range(30) for _ in range(30 - i)] + ["", ""])
    column = _categorical("x", values)
    assert column.categories == tuple(f"c{i:02d}" for i in range(20))
    assert column.counts[20] == sum(range(1, 11))
    assert column.counts[21] == 2


def test_predictions_are_those_of_held_out_rows() -> None:
    split = split_of(cancer(), recipe_for("Classification", "diagnosis"))
    scores = np.tile(np.array([[0.2, 0.8]], dtype=np.float32), (len(split.held_out), 1))
    reference = describe(split, scores)
    assert reference.rows == len(split.train)
    assert [column.name for column in reference.columns] == [column.name for column in split.columns]
    assert reference.prediction.categories == ("benign", "malignant")
    assert reference.prediction.counts == (0, len(split.held_out), 0, 0)


def test_estimates_are_binned_like_numbers() -> None:
    split = split_of(diabetes(), recipe_for("Regression", "target"))
    scores = np.linspace(50, 300, len(split.held_out), dtype=np.float32)[:, None]
    prediction = describe(split, scores).prediction
    assert (prediction.name, len(prediction.edges)) == ("target", 9)
