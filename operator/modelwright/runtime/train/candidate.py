"""Training one set of parameters in this process, to see how good it gets: what a search does many times."""

import math
from collections.abc import Callable

from modelwright.api.recipe import TabularRecipe
from modelwright.runtime.train import metrics
from modelwright.runtime.train.evaluation import outcome_of
from modelwright.runtime.train.problem import Split
from modelwright.runtime.train.recipes import begin
from modelwright.runtime.train.world import World


def train_candidate(
    split: Split, recipe: TabularRecipe, on_epoch: Callable[[int, dict[str, float]], None] | None = None
) -> dict[str, float]:
    """Train a recipe alone in this process and return its metrics on the held-out rows.

    `on_epoch` is called after each epoch (from 1) with the metrics so far; what it raises ends the training and is
    passed on. Metrics that are not defined are NaN; so is everything once the training has diverged. Nothing is saved,
    reported or registered. The recipe may differ in algorithm and parameters from the one that prepared the split, not
    in target, task or features.
    """
    preprocessor, trainer = begin(split, recipe, World())
    features = preprocessor.transform(split.held_out.features)
    measured: dict[str, float] = {}
    while trainer.step < trainer.total_steps:
        trainer.advance()
        if trainer.step % trainer.steps_per_epoch and trainer.step < trainer.total_steps:
            continue
        outcome = outcome_of(trainer.scores(features), split.held_out, split.classes)
        measured = {name: metrics.measure(name, outcome) for name in metrics.names(outcome)}
        if not math.isfinite(trainer.loss):
            measured = dict.fromkeys(measured, math.nan)
        if on_epoch is not None:
            on_epoch(math.ceil(trainer.step / trainer.steps_per_epoch), measured)
    return measured
