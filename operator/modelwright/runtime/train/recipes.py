"""From a recipe to what trains it.

An algorithm's library is imported only where it is used: torch, LightGBM and their kin take seconds of CPU to import.
"""

import hashlib

from modelwright.api.recipe import Algorithm, TabularRecipe
from modelwright.api.trainingjob import Dataset
from modelwright.runtime.imports import importing
from modelwright.runtime.train import preprocessing
from modelwright.runtime.train.preprocessing import Preprocessor
from modelwright.runtime.train.problem import Split
from modelwright.runtime.train.trainer import Trainer
from modelwright.runtime.train.world import World


def begin(split: Split, recipe: TabularRecipe, world: World) -> tuple[Preprocessor, Trainer]:
    """Return the fitted preprocessing and an untrained model for a problem."""
    network = recipe.algorithm is Algorithm.NEURAL_NETWORK
    # Trees cut columns at values, so the scale of a column means nothing to them.
    preprocessor = preprocessing.fit(split.train.features, split.columns, scale=network)
    features = preprocessor.transform(split.train.features)
    if network:
        with importing():
            from modelwright.runtime.train.loop import NetworkTrainer
        return preprocessor, NetworkTrainer(features, split.train.target, split, recipe, world)
    with importing():
        from modelwright.runtime.train.boosting import BoostingTrainer
    return preprocessor, BoostingTrainer(features, split.train.target, split, recipe)


def fingerprint(split: Split, recipe: TabularRecipe, dataset: Dataset) -> str:
    """Return a digest of all that a trained state depends on: the data, its split, and the recipe."""
    parts = (split.digest, dataset.model_dump_json(), recipe.model_dump_json())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def parameters(recipe: TabularRecipe) -> dict[str, str | int | float | bool]:
    """Return the parameters of the algorithm that the recipe chose, by their names in the spec."""
    chosen = recipe.neural_network if recipe.algorithm is Algorithm.NEURAL_NETWORK else recipe.light_gbm
    return {**chosen.document(), "seed": recipe.seed}
