"""One trial, in one process: train the recipe with what was suggested, and say after each epoch how good it is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune

from modelwright.api.recipe import TabularRecipe
from modelwright.api.searchspace import with_parameters
from modelwright.runtime.failure import RunError
from modelwright.runtime.train.candidate import train_candidate
from modelwright.runtime.train.problem import Split
from modelwright.runtime.tune.searcher import EPOCH, FAILURE, FINISHED, OBJECTIVE, parameter_values

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """What all trials of a sweep have in common."""

    recipe: dict[str, Any]
    """The tabular recipe of the template, in its JSON form."""
    metric: str


def trainable(task: Task, split: Any) -> Callable[[dict[str, Any]], None]:
    """Return the function that Ray Tune calls with each suggestion; `split` is a reference into Ray's object store."""

    def run_trial(config: dict[str, Any], split: Split) -> None:
        attempt(config["parameters"], task, split, tune.report)

    wrapped: Callable[[dict[str, Any]], None] = tune.with_parameters(run_trial, split=split)
    return wrapped


def attempt(parameters: Mapping[str, str], task: Task, split: Split, tell: Tell) -> None:
    """Train once.

    An error is told instead of raised: Ray would replace the process, and to start one takes longer than most trials.
    """
    try:
        recipe = TabularRecipe.model_validate(with_parameters(task.recipe, parameter_values(parameters)))
        last: dict[str, Any] = {}

        def after(epoch: int, metrics: Mapping[str, float]) -> None:
            last.update({OBJECTIVE: _objective(task.metric, epoch, metrics), EPOCH: epoch})
            tell(dict(last))

        train_candidate(split, recipe, after)
        tell({**last, FINISHED: True})
    except Exception as error:  # noqa: BLE001 (whatever broke belongs to this trial alone)
        tell({FAILURE: error.message if isinstance(error, RunError) else f"{type(error).__name__}: {error}"})


def _objective(metric: str, epoch: int, metrics: Mapping[str, float]) -> float:
    value = metrics.get(metric, math.nan)
    if not math.isfinite(value):
        message = f"{metric} is no number after epoch {epoch}: training diverged, or the held-out rows do not define it"
        raise RunError("ObjectiveUndefined", message, retryable=False)
    return value
