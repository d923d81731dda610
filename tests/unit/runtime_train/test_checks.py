from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelwright.api.recipe import TabularRecipe
from modelwright.runtime.failure import DataError
from modelwright.runtime.train.problem import Split, prepare
from tests.unit.runtime_train.tables import DATASET, cancer, diabetes, mixed, table_of


def check(frame: Any, task: str = "Classification", target: str = "target", **recipe: Any) -> Split:
    return prepare(table_of(frame), TabularRecipe(task=task, target=target, **recipe), DATASET, warn=lambda _: None)


def with_column(values: Any, rows: int = 200) -> Any:
    return mixed(rows).assign(extra=values)


@pytest.mark.parametrize(
    ("recipe", "reason", "sentence"),
    [
        ({"target": "goal"}, "ColumnNotFound", "There is no column goal: the data has n, text, target"),
        ({"features": ("n", "age")}, "ColumnNotFound", "There is no column age"),
        ({"features": ("n", "target")}, "DataInvalid", "Column target is the target"),
        ({"task": "Regression"}, "TargetInvalid", "Column target holds text: regression needs numbers"),
    ],
)
def test_a_recipe_that_does_not_fit_the_data_is_told_so(recipe: Any, reason: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        check(mixed(200), **recipe)
    assert caught.value.reason == reason
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("frame", "reason", "sentence"),
    [
        (mixed(5), "DataInvalid", "has 5 rows; at least 20"),
        (mixed(200, columns=("target",)), "DataInvalid", "no column besides target"),
        (mixed(200).assign(target=""), "TargetInvalid", "Column target has no value in any row"),
        (mixed(200).assign(target="yes"), "TargetInvalid", "same value in every training row"),
        (
            mixed(200).assign(target=np.arange(200) * 0.5),
            "TargetInvalid",
            "200 different values: is this a task of Reg",
        ),
        (with_column(np.nan), "DataInvalid", "Column extra has no value in any row"),
        (with_column(""), "DataInvalid", "Column extra has no value in any row"),
        (
            with_column(np.where(np.arange(200) == 3, 1e300, 0.0)),
            "DataInvalid",
            "Column extra holds values that are inf",
        ),
        (with_column([f"user-{i}" for i in range(200)]), "DataInvalid", "like an identifier or free text"),
    ],
)
def test_data_that_cannot_work_is_refused_with_what_to_do(frame: Any, reason: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        check(frame)
    assert caught.value.reason == reason


def test_an_unusable_column_is_refused_when_named_and_passed_over_when_not() -> None:
    frame = with_column([[1]] * 200)
    with pytest.raises(DataError, match="Column extra holds lists"):
        check(frame, features=("n", "extra"))
    assert "not used: extra" in check(frame).warnings[0]


def test_rows_without_a_target_are_left_out_and_counted() -> None:
    frame = mixed(200)
    frame.loc[:9, "target"] = None
    split = check(frame)
    assert len(split.train) + len(split.held_out) == 190
    assert any("10 rows without a value of target" in sentence for sentence in split.warnings)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.where(np.arange(200) % 3 > 0, np.nan, np.arange(200)), "Column extra is missing in 66% of the rows"),
        (7.0, "Column extra has the same value in every row"),
    ],
)
def test_odd_columns_are_warned_of(values: Any, sentence: str) -> None:
    assert sentence in check(with_column(values)).warnings


def leaking(frame: Any, task: str, target: str) -> list[str]:
    return [w.split()[1] for w in check(frame, task, target).warnings if "almost perfectly" in w]


def test_a_column_that_gives_the_answer_away_is_found() -> None:
    answer = mixed(400)["target"]
    assert leaking(mixed(400).assign(decision=answer.map({"no": "out", "yes": "in"})), "Classification", "target") == [
        "decision"
    ]
    assert leaking(mixed(400).assign(code=answer.map({"no": 0.1, "yes": 7.5})), "Classification", "target") == ["code"]
    spread = pd.DataFrame({"y": np.linspace(0, 1, 2000) ** 2, "x": np.linspace(5, 9, 2000)})
    assert leaking(spread.assign(noise=np.sin(np.arange(2000))), "Regression", "y") == ["x"]


def test_honest_columns_are_not_suspected() -> None:
    assert leaking(cancer(), "Classification", "diagnosis") == []
    assert leaking(diabetes(), "Regression", "target") == []
    rare = mixed(2000).assign(target=np.where(np.arange(2000) == 5, "yes", "no"))
    rare.loc[7, "target"] = "yes"
    assert leaking(rare, "Classification", "target") == []


def test_classes_are_sorted_and_the_parts_are_disjoint() -> None:
    split = check(cancer(), target="diagnosis")
    assert split.classes == ("benign", "malignant")
    assert len(split.train) + len(split.held_out) == 569
    assert not set(map(tuple, split.train.features.values)) & set(map(tuple, split.held_out.features.values))
    assert list(split.aside["diagnosis"]) == [split.classes[code] for code in split.held_out.target]


def test_numeric_classes_are_named_as_people_write_them() -> None:
    assert check(mixed(200).assign(target=np.arange(200) % 3)).classes == ("0", "1", "2")


def test_numeric_classes_that_float32_would_merge_are_refused() -> None:
    with pytest.raises(DataError, match="write the classes as text") as caught:
        check(mixed(200).assign(target=123456789 + np.arange(200) % 2))
    assert caught.value.reason == "TargetInvalid"


def test_a_search_sees_no_row_that_the_gate_will_use() -> None:
    recipe = TabularRecipe(task="Classification", target="diagnosis")
    whole = prepare(table_of(cancer()), recipe, DATASET, warn=lambda _: None)
    inner = prepare(table_of(cancer()), recipe, DATASET, warn=lambda _: None, search=True)
    seen = [set(map(repr, part.features.to_numpy().tolist())) for part in (inner.train, inner.held_out)]
    learnt = set(map(repr, whole.train.features.to_numpy().tolist()))
    assert seen[0] | seen[1] == learnt
    assert not seen[0] & seen[1]
    assert len(inner.held_out) == pytest.approx(len(whole.train) * DATASET.validation_fraction, rel=0.3)
    assert len(inner.aside) == len(inner.held_out)
    assert inner.warnings == whole.warnings


def test_inputs_of_the_graph_are_plain_and_distinct() -> None:
    split = check(mixed(200).assign(**{"a b": 1.0, "a_b": 2.0, "é": 3.0}))
    names = [column.input for column in split.columns]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.isascii() for name in names)
