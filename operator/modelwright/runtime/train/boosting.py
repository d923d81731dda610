"""Gradient-boosted trees by LightGBM, one tree (or one a class) a step."""

import math
import re
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import onnx
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from modelwright.api.recipe import LightGBMParameters, TabularRecipe
from modelwright.runtime.cpus import available_cpus
from modelwright.runtime.failure import DataError
from modelwright.runtime.train.columns import Floats
from modelwright.runtime.train.problem import Split
from modelwright.runtime.train.trainer import Files

MODEL_FILE = "model.txt"
_EPOCHS = 20
"""Trees have no epochs; a twentieth of them counts as one, so that progress and early stopping speak one language."""
_WORTH_THREADS = 1_000_000
"""Values in the training rows; for fewer, threads wait for each other longer than they work."""
_CONVERTER_OPSET = 15
"""The newest that onnxmltools has for trees."""


class BoostingTrainer:
    """Trees in training; see `Trainer`. One process; its threads share the work."""

    def __init__(self, features: Floats, target: npt.NDArray[Any], split: Split, recipe: TabularRecipe) -> None:
        self._classes = len(split.classes)
        threads = 1 if features.size < _WORTH_THREADS else available_cpus()
        self._parameters = _lightgbm_parameters(recipe.light_gbm, self._classes, recipe.seed) | {"num_threads": threads}
        self._data = lightgbm.Dataset(features, target, free_raw_data=False)
        self._booster: Any = None
        self._grows = False
        self.step = 0
        self.total_steps = recipe.light_gbm.num_trees
        self.steps_per_epoch = max(1, math.ceil(self.total_steps / _EPOCHS))

    @property
    def loss(self) -> float:
        """The training loss: cross-entropy, or squared error. It takes a pass over the rows.

        NaN before the first tree, and for trees that were complete when they were taken over.
        """
        if not self._grows:
            return math.nan
        return float(self._booster.eval_train()[0][2])

    def advance(self, stop: bool = False) -> bool:
        """Grow one tree (one a class); return whether to stop."""
        if self._booster is None:
            self._start(init_model=None)
        else:
            self._booster.update()
            self.step += 1
        return stop

    def capture(self) -> Callable[[], Files]:
        """Copy the trees; see `Trainer`."""
        text: str = self._booster.model_to_string(num_iteration=-1)
        return lambda: {MODEL_FILE: text.encode()}

    def restore(self, step: int, files: Files) -> None:
        """Take over trees, and grow the next one at once: LightGBM cannot continue a model without."""
        self.step = step
        trees = lightgbm.Booster(model_str=files[MODEL_FILE].decode())
        if step >= self.total_steps:
            # A model that is read from text has no training rows, and has no need of them any more.
            self._booster, self._grows = trees, False
        else:
            self._start(init_model=trees)

    def start_from(self, weights: Files) -> None:
        """Refuse: the API server does, too. See `Trainer`."""
        raise DataError("WarmStartImpossible", "LightGBM grows its trees from the first: leave resume out")

    def scores(self, features: Floats) -> Floats:
        """Return probabilities or estimates; see `Trainer`."""
        booster = _single_precision(self._booster)
        answer = np.asarray(booster.predict(features, num_threads=self._parameters["num_threads"]))
        if self._classes == 2:  # LightGBM gives the probability of the second class alone
            answer = np.stack([1 - answer, answer], axis=1)
        return answer.reshape(len(features), -1).astype(np.float32)

    def graph(self) -> onnx.ModelProto:
        """Return the trees as ONNX; see `Trainer`."""
        booster = _single_precision(self._booster)
        inputs = [("features", FloatTensorType([None, booster.num_feature()]))]
        model: onnx.ModelProto = convert_lightgbm(
            booster, initial_types=inputs, target_opset=_CONVERTER_OPSET, zipmap=False
        )
        return model

    def weights(self) -> Files:
        """Return the trees in LightGBM's own text."""
        return self.capture()()

    def _start(self, init_model: Any) -> None:
        self._booster = lightgbm.train(
            self._parameters, self._data, num_boost_round=1, init_model=init_model, keep_training_booster=True
        )
        self._grows = True
        self.step += 1


def _lightgbm_parameters(parameters: LightGBMParameters, classes: int, seed: int) -> dict[str, Any]:
    objective: dict[str, Any] = {"objective": "regression", "metric": "l2"}
    if classes == 2:  # two classes need one tree a step
        objective = {"objective": "binary", "metric": "binary_logloss"}
    elif classes:
        objective = {"objective": "multiclass", "metric": "multi_logloss", "num_class": classes}
    return objective | {
        "num_leaves": parameters.num_leaves,
        "learning_rate": parameters.learning_rate,
        "min_data_in_leaf": parameters.min_data_in_leaf,
        "feature_fraction": parameters.feature_fraction,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _single_precision(booster: Any) -> Any:
    """Return the same trees with every threshold rounded down to a float32.

    For float32 features this changes no answer (x <= t exactly when x <= floor32(t)), and it is what ONNX can hold:
    rounding to the nearest instead would send rows that lie on a threshold the other way.
    """
    text: str = booster.model_to_string(num_iteration=-1)
    text = re.sub(r"^threshold=(.*)$", lambda line: f"threshold={_floor(line[1])}", text, flags=re.MULTILINE)
    # The header keeps the length of each tree's text, which has just changed; without it LightGBM reads on.
    return lightgbm.Booster(model_str=re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE))


def _floor(numbers: str) -> str:
    exact = np.array(numbers.split(), dtype=np.float64)
    nearest = exact.astype(np.float32)
    floored = np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return " ".join(repr(float(value)) for value in floored)
