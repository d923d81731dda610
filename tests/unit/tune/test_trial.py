import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from modelwright.api.recipe import Algorithm, TabularRecipe
from modelwright.runtime.failure import RunError
from modelwright.runtime.tune import trial
from modelwright.runtime.tune.searcher import EPOCH, FAILURE, FINISHED, OBJECTIVE
from modelwright.runtime.tune.trial import Task, attempt

TASK = Task({"task": "Classification", "target": "y", "neuralNetwork": {"epochs": 3}}, "roc_auc")
Train = Callable[[Any, TabularRecipe, Callable[[int, Mapping[str, float]], None]], None]


def told(monkeypatch: pytest.MonkeyPatch, train: Train, parameters: Mapping[str, str] | None = None) -> list[Any]:
    """Return what a trial tells when training goes like this."""
    monkeypatch.setattr(trial, "train_candidate", train)
    said: list[Any] = []
    attempt(parameters or {}, TASK, None, said.append)  # type: ignore[arg-type]
    return said


def test_the_objective_is_told_after_each_epoch_and_once_more_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(split: Any, recipe: TabularRecipe, after: Callable[[int, Mapping[str, float]], None]) -> None:
        for epoch, value in enumerate((0.5, 0.75), start=1):
            after(epoch, {"roc_auc": value, "accuracy": 1.0})

    assert told(monkeypatch, train) == [
        {OBJECTIVE: 0.5, EPOCH: 1},
        {OBJECTIVE: 0.75, EPOCH: 2},
        {OBJECTIVE: 0.75, EPOCH: 2, FINISHED: True},
    ]


def test_the_suggested_parameters_are_in_the_recipe_beside_those_of_the_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[TabularRecipe] = []
    told(
        monkeypatch,
        lambda split, recipe, after: seen.append(recipe),
        {"algorithm": "LightGBM", "neuralNetwork.learningRate": "0.5", "lightGBM.numLeaves": "7"},
    )

    (recipe,) = seen
    assert recipe.algorithm is Algorithm.LIGHT_GBM
    assert (recipe.neural_network.learning_rate, recipe.neural_network.epochs) == (0.5, 3)
    assert recipe.light_gbm.num_leaves == 7


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_an_objective_that_is_no_number_ends_the_trial_as_failed(
    monkeypatch: pytest.MonkeyPatch, value: float | None
) -> None:
    def train(split: Any, recipe: TabularRecipe, after: Callable[[int, Mapping[str, float]], None]) -> None:
        after(1, {"roc_auc": 0.5})
        after(2, {} if value is None else {"roc_auc": value})
        raise AssertionError("training went on")

    last = told(monkeypatch, train)[-1]
    assert set(last) == {FAILURE}
    assert "roc_auc is no number after epoch 2" in last[FAILURE]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RunError("Diverged", "lower the rate", retryable=False), "lower the rate"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_an_error_is_told_and_does_not_take_the_process_with_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def train(split: Any, recipe: TabularRecipe, after: Callable[[int, Mapping[str, float]], None]) -> None:
        raise error

    assert told(monkeypatch, train) == [{FAILURE: says}]


def test_parameters_out_of_bounds_fail_the_trial_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = told(monkeypatch, lambda split, recipe, after: None, {"neuralNetwork.dropout": "7"})

    assert "less than 1" in said[FAILURE]
