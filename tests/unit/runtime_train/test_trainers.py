import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from modelwright.api.run import PEER_LOST
from modelwright.runtime.failure import RunError
from modelwright.runtime.train import network
from modelwright.runtime.train.candidate import train_candidate
from modelwright.runtime.train.loop import NetworkTrainer
from modelwright.runtime.train.problem import Split
from modelwright.runtime.train.progress import Clock
from modelwright.runtime.train.recipes import begin, fingerprint, parameters
from modelwright.runtime.train.trainer import Trainer
from modelwright.runtime.train.world import World
from tests.unit.runtime_train.tables import DATASET, cancer, diabetes, recipe_for, split_of

RECIPE = recipe_for("Classification", "diagnosis")


@pytest.fixture(scope="module")
def split() -> Split:
    return split_of(cancer(), RECIPE)


def advance(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.advance()
    return trainer


def trees(trainer: Trainer) -> list[bytes]:
    """Return the text of each tree, without what LightGBM says of the whole model."""
    text = trainer.weights()["model.txt"].split(b"\nend of trees")[0]
    return [block.strip() for block in text.split(b"\nTree=")[1:]]


def features(split: Split) -> Any:
    return begin(split, RECIPE, World())[0].transform(split.held_out.features)


def test_a_resumed_network_ends_exactly_where_an_uninterrupted_one_does(split: Split) -> None:
    whole = advance(begin(split, RECIPE, World())[1], 25)
    first = advance(begin(split, RECIPE, World())[1], 11)
    second = begin(split, RECIPE, World())[1]
    second.restore(first.step, first.capture()())
    advance(second, 14)
    assert second.step == whole.step == 25
    assert (second.scores(features(split)) == whole.scores(features(split))).all()


class _Apart(World):
    """One of several processes, which sees the sums of none but itself."""

    def all_reduce(self, tensors: Sequence[Any], values: Sequence[float]) -> list[float]:
        return list(values)

    def broadcast(self, tensors: Sequence[Any]) -> None:
        pass


def gradients(trainer: Trainer) -> list[Any]:
    assert isinstance(trainer, NetworkTrainer)
    return [parameter.grad.clone() for parameter in trainer.network.parameters()]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_any_number_of_processes_makes_the_same_steps(split: Split, size: int) -> None:
    # Each process draws what it drops for itself.
    recipe = recipe_for("Classification", "diagnosis", dropout=0)
    alone = begin(split, recipe, World())[1]
    ranks = [begin(split, recipe, _Apart(rank, size))[1] for rank in range(size)]
    assert {trainer.total_steps for trainer in ranks} == {alone.total_steps}
    wanted, shares = gradients(advance(alone, 1)), [gradients(advance(trainer, 1)) for trainer in ranks]
    for parts, gradient in zip(zip(*shares, strict=True), wanted, strict=True):
        assert sum(parts).numpy() == pytest.approx(gradient.numpy(), rel=1e-4, abs=1e-6)


def test_resumed_trees_keep_what_they_had_and_reach_the_same_number(split: Split) -> None:
    recipe = recipe_for("Classification", "diagnosis", "LightGBM")
    preprocessor, first = begin(split, recipe, World())
    advance(first, 10)
    second = begin(split, recipe, World())[1]
    second.restore(first.step, first.capture()())
    while second.step < second.total_steps:
        second.advance()
    whole = advance(begin(split, recipe, World())[1], 30)
    rows = preprocessor.transform(split.held_out.features)
    assert len(trees(second)) == 30
    assert trees(second)[:10] == trees(first)
    assert second.scores(rows) == pytest.approx(whole.scores(rows), abs=0.05)


def test_trees_that_were_complete_stay_as_they_are(split: Split) -> None:
    recipe = recipe_for("Classification", "diagnosis", "LightGBM")
    first = advance(begin(split, recipe, World())[1], 30)
    second = begin(split, recipe, World())[1]
    second.restore(30, first.capture()())
    assert second.step == 30
    assert trees(second) == trees(first)
    told = Clock(second).progress()
    assert (told.step, told.loss) == (30, None)


def test_a_captured_state_does_not_change_with_further_steps(split: Split) -> None:
    trainer = advance(begin(split, RECIPE, World())[1], 3)
    files = trainer.capture()
    before = files()
    advance(trainer, 3)
    assert files() == before


def test_many_rows_go_through_the_network_in_pieces_that_fit_into_memory(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = advance(begin(split, RECIPE, World())[1], 3)
    assert isinstance(trainer, NetworkTrainer)
    at_once = trainer.scores(features(split))
    sizes: list[int] = []
    trainer.network.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    monkeypatch.setattr(network, "_CHUNK", 50)
    assert trainer.scores(features(split)) == pytest.approx(at_once, abs=1e-6)
    assert max(sizes) <= 50
    assert sum(sizes) == len(split.held_out)


def test_a_peer_lost_in_the_middle_of_a_step_is_told_as_such(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = begin(split, RECIPE, _Apart(0, 2))[1]

    def broken(tensor: Any) -> None:
        raise RuntimeError("[../pair.cc:534] Connection closed by peer [10.0.0.1]:123")

    monkeypatch.setattr(_Apart, "all_reduce", World.all_reduce)
    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    with pytest.raises(RunError) as caught:
        trainer.advance()
    assert caught.value.reason == PEER_LOST


def test_every_row_is_seen_once_an_epoch(split: Split) -> None:
    trainer = begin(split, RECIPE, World())[1]
    assert isinstance(trainer, NetworkTrainer)
    seen: list[int] = []
    for _ in range(trainer.steps_per_epoch):
        seen += trainer._batch().tolist()
        trainer.step += 1
    assert sorted(seen) == list(range(len(split.train)))


def test_regression_learns_in_the_targets_own_unit() -> None:
    recipe = recipe_for("Regression", "target", epochs=60, learning_rate=0.01)
    split = split_of(diabetes(), recipe)
    measured = train_candidate(split, recipe)
    spread = float(split.held_out.target.std())
    assert measured["rmse"] < 0.95 * spread
    assert measured["r2"] > 0.2


def test_the_learning_rate_falls_to_zero(split: Split) -> None:
    trainer = begin(split, RECIPE, World())[1]
    assert isinstance(trainer, NetworkTrainer)
    assert trainer._learning_rate() == RECIPE.neural_network.learning_rate
    trainer.step = trainer.total_steps
    assert trainer._learning_rate() == pytest.approx(0)


def test_weights_that_are_no_numbers_are_no_checkpoint(split: Split) -> None:
    parameters = RECIPE.neural_network.model_copy(update={"learning_rate": 1e30})
    _, trainer = begin(split, RECIPE.model_copy(update={"neural_network": parameters}), World())
    trainer.capture()
    for _ in range(3):
        trainer.advance()
    with pytest.raises(RunError, match="no numbers after step 3: lower the learning rate") as caught:
        trainer.capture()
    assert (caught.value.reason, caught.value.retryable) == ("Diverged", False)


def test_weights_are_kept_without_the_optimizer(split: Split) -> None:
    trainer = advance(begin(split, RECIPE, World())[1], 1)
    tensors = safetensors.numpy.load(trainer.weights()["weights.safetensors"])
    assert {name.split(".")[1] for name in tensors} == {"weight", "bias"}


@pytest.mark.parametrize("algorithm", ["NeuralNetwork", "LightGBM"])
def test_a_candidate_tells_its_metrics_after_each_epoch(split: Split, algorithm: str) -> None:
    recipe = recipe_for("Classification", "diagnosis", algorithm, epochs=15, learning_rate=0.01)
    told: list[tuple[int, dict[str, float]]] = []
    final = train_candidate(split, recipe, lambda epoch, measured: told.append((epoch, measured)))
    assert [epoch for epoch, _ in told] == list(range(1, len(told) + 1))
    assert len(told) == 15
    assert told[-1][1] == final
    assert final["accuracy"] > 0.9
    assert final["log_loss"] < told[0][1]["log_loss"]


def test_a_candidate_can_be_stopped_from_outside(split: Split) -> None:
    class EnoughError(Exception):
        pass

    def stop(epoch: int, measured: dict[str, float]) -> None:
        if epoch == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        train_candidate(split, RECIPE, stop)


def test_a_candidate_that_diverges_is_nan_and_no_error(split: Split) -> None:
    recipe = recipe_for("Classification", "diagnosis", epochs=30, learning_rate=10.0, hidden_layers=16)
    recipe = recipe.model_copy(
        update={"neural_network": recipe.neural_network.model_copy(update={"learning_rate": 1e30})}
    )
    assert all(math.isnan(value) for value in train_candidate(split, recipe).values())


def test_the_fingerprint_follows_data_and_recipe(split: Split) -> None:
    same = fingerprint(split, RECIPE, DATASET)
    assert same == fingerprint(split_of(cancer(), RECIPE), RECIPE, DATASET)
    assert same != fingerprint(split, recipe_for("Classification", "diagnosis", epochs=6), DATASET)
    assert same != fingerprint(split, RECIPE, DATASET.model_copy(update={"split_seed": 1}))


def test_lineage_names_the_parameters_of_the_chosen_algorithm() -> None:
    assert parameters(recipe_for("Regression", "y", "LightGBM"))["numTrees"] == 30
    assert parameters(RECIPE)["epochs"] == 5


def test_estimates_and_targets_share_their_type() -> None:
    split = split_of(diabetes(), recipe_for("Regression", "target"))
    assert split.train.target.dtype == np.float32
