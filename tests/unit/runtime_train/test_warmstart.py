"""Starting from the weights of another model."""

from pathlib import Path
from typing import Any

import pytest

from modelwright.api.recipe import TabularRecipe
from modelwright.api.trainingjob import CheckpointStatus
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import register
from modelwright.runtime.failure import DataError
from modelwright.runtime.train import warmstart
from modelwright.runtime.train.checkpoints import CheckpointStore
from modelwright.runtime.train.problem import Split
from modelwright.runtime.train.recipes import begin
from modelwright.runtime.train.trainer import Trainer
from modelwright.runtime.train.world import World
from tests.unit.registry.fake_s3 import memory_store
from tests.unit.runtime_train.runs import run_of
from tests.unit.runtime_train.tables import cancer, recipe_for, split_of

RECIPE = recipe_for("Classification", "diagnosis")


@pytest.fixture(scope="module")
def split() -> Split:
    return split_of(cancer(), RECIPE)


def trained(split: Split, recipe: TabularRecipe = RECIPE, steps: int = 3) -> Trainer:
    trainer = begin(split, recipe, World())[1]
    for _ in range(steps):
        trainer.advance()
    return trainer


def registered(store: ObjectStore, trainer: Trainer, split: Split, folder: Path) -> None:
    for name, data in trainer.weights().items():
        (folder / name).write_bytes(data)
    (folder / "signature.json").write_text(split.signature.model_dump_json(by_alias=True))
    register(store, model="m", namespace="ns", job_uid="other", directory=folder, created="2026-11-23T10:00:00Z")


def start(store: ObjectStore, split: Split, recipe: TabularRecipe = RECIPE, **source: Any) -> Trainer:
    trainer = begin(split, recipe, World())[1]
    warmstart.begin(trainer, store, run_of(resume={"from": source}), split.signature)
    return trainer


def checkpoint(store: ObjectStore, trainer: Trainer, split: Split) -> CheckpointStatus:
    meaning = {"signature.json": split.signature.model_dump_json(by_alias=True).encode()}
    return CheckpointStore(store, run_of(), "theirs", meaning).save(3, trainer.capture()())


VERSION = {"model": {"name": "m", "version": 1}}


def test_a_job_starts_with_the_weights_of_a_version_at_step_0(split: Split, tmp_path: Path) -> None:
    store, other = memory_store(), trained(split)
    registered(store, other, split, tmp_path)
    mine = start(store, split, **VERSION)
    assert mine.weights() == other.weights()
    assert mine.step == 0


def test_a_job_starts_with_the_weights_of_a_checkpoint_of_another_job(split: Split) -> None:
    store, other = memory_store(), trained(split)
    there = checkpoint(store, other, split)
    mine = start(store, split, checkpoint=there.uri)
    assert mine.weights() == other.weights()
    assert mine.step == 0


def test_without_resume_nothing_is_read(split: Split) -> None:
    trainer = begin(split, RECIPE, World())[1]
    warmstart.begin(trainer, memory_store(), run_of(), split.signature)
    assert trainer.weights() == begin(split, RECIPE, World())[1].weights()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"model": {"name": "m", "version": 7}}, "There is no version 7 of model m"),
        ({"checkpoint": "s3://bucket/base/nothing/"}, "There is no complete checkpoint"),
    ],
)
def test_what_is_not_there_is_named(split: Split, source: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        start(memory_store(), split, **source)
    assert caught.value.reason == "WarmStartImpossible"


def test_weights_that_would_mean_something_else_are_refused(split: Split, tmp_path: Path) -> None:
    store = memory_store()
    registered(store, trained(split), split, tmp_path)
    fewer = RECIPE.model_copy(update={"features": tuple(column.name for column in split.columns[:5])})
    with pytest.raises(DataError, match="has other columns than this job"):
        start(store, split_of(cancer(), fewer), fewer, **VERSION)


def test_a_checkpoint_that_would_mean_something_else_is_refused(split: Split) -> None:
    store = memory_store()
    there = checkpoint(store, trained(split), split)
    # As many columns and classes, and so layers of the same size; but others.
    renamed = cancer().rename(columns={"mean radius": "radius"})
    with pytest.raises(DataError, match=f"The checkpoint at {there.uri} has other columns than this job"):
        start(store, split_of(renamed, RECIPE), checkpoint=there.uri)


def test_a_network_of_another_size_is_refused_with_both_sizes(split: Split, tmp_path: Path) -> None:
    store = memory_store()
    registered(store, trained(split), split, tmp_path)
    wider = RECIPE.model_copy(update={"neural_network": RECIPE.neural_network.model_copy(update={"hidden_units": 9})})
    with pytest.raises(DataError, match=r"layers of .* and this one of \d+x9"):
        start(store, split, wider, **VERSION)


def test_damaged_weights_are_refused(split: Split, tmp_path: Path) -> None:
    store = memory_store()
    registered(store, trained(split), split, tmp_path)
    store.write("models/m/versions/1/weights.safetensors", b"other")
    with pytest.raises(DataError, match=r"weights\.safetensors of version 1 of m is damaged"):
        start(store, split, **VERSION)


def test_trees_start_from_nothing(split: Split) -> None:
    trees = trained(split, recipe_for("Classification", "diagnosis", "LightGBM"), steps=1)
    with pytest.raises(DataError, match="leave resume out"):
        trees.start_from({})
