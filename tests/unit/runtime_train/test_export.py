"""The graph that is registered answers as the model that was trained, for every kind of problem and column."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from modelwright.api.artifacts import ColumnKind
from modelwright.runtime.failure import DataError, RunError
from modelwright.runtime.train.answers import GraphModel, missing_columns
from modelwright.runtime.train.columns import Floats
from modelwright.runtime.train.export import TOLERANCE, assemble, verify
from modelwright.runtime.train.problem import Split
from modelwright.runtime.train.recipes import begin
from modelwright.runtime.train.world import World
from tests.unit.runtime_train.tables import cancer, diabetes, mixed, recipe_for, split_of, wine

PROBLEMS = {
    "binary": (cancer, "Classification", "diagnosis"),
    "three classes": (wine, "Classification", "target"),
    "regression": (diabetes, "Regression", "target"),
    "text only": (lambda: mixed(300, columns=("text", "target")), "Classification", "target"),
    "numbers only": (lambda: mixed(300, columns=("n", "target")), "Classification", "target"),
}


def trained(split: Split, algorithm: str, task: str, target: str) -> Any:
    preprocessor, trainer = begin(split, recipe_for(task, target, algorithm), World())
    while trainer.step < trainer.total_steps:
        trainer.advance()
    return preprocessor, trainer


@pytest.mark.parametrize("algorithm", ["NeuralNetwork", "LightGBM"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_graph_answers_as_the_trained_model(problem: str, algorithm: str) -> None:
    frame, task, target = PROBLEMS[problem]
    split = split_of(frame(), recipe_for(task, target))
    preprocessor, trainer = trained(split, algorithm, task, target)
    model = assemble(preprocessor, trainer, split.signature)
    graph = GraphModel(model.SerializeToString(), split.signature)
    assert verify(graph, trainer, preprocessor, split) <= TOLERANCE
    assert [value.name for value in model.graph.input] == [column.input for column in split.columns]
    predictions, scores = graph.answer(split.held_out.features)
    assert predictions.shape == (len(split.held_out), 1)
    assert scores.shape == (len(split.held_out), split.outputs)
    if split.classes:
        assert scores.sum(axis=1) == pytest.approx(np.ones(len(scores)), abs=1e-5)
        assert set(predictions.ravel()) <= set(split.classes)


@pytest.fixture(scope="module")
def exported() -> tuple[Any, Any, Split, GraphModel]:
    split = split_of(cancer(), recipe_for("Classification", "diagnosis"))
    preprocessor, trainer = trained(split, "NeuralNetwork", "Classification", "diagnosis")
    model = assemble(preprocessor, trainer, split.signature)
    return preprocessor, trainer, split, GraphModel(model.SerializeToString(), split.signature)


def test_a_graph_that_answers_otherwise_is_not_let_through(exported: tuple[Any, Any, Split, GraphModel]) -> None:
    preprocessor, trainer, split, graph = exported

    class Shifted:
        def scores(self, features: Floats) -> Floats:
            return trainer.scores(features) + np.float32(2e-5)

    with pytest.raises(RunError, match="differs from the trained model by 2"):
        verify(graph, Shifted(), preprocessor, split)  # type: ignore[arg-type]


def test_a_shifted_answer_is_found_however_small_the_target_is() -> None:
    frame = diabetes().assign(target=lambda table: table["target"] * 1e-7)
    split = split_of(frame, recipe_for("Regression", "target"))
    preprocessor, trainer = trained(split, "LightGBM", "Regression", "target")
    graph = GraphModel(assemble(preprocessor, trainer, split.signature).SerializeToString(), split.signature)
    assert verify(graph, trainer, preprocessor, split) <= TOLERANCE

    class Shifted:
        def scores(self, features: Floats) -> Floats:
            return trainer.scores(features) * np.float32(1.01)

    with pytest.raises(RunError, match="differs from the trained model"):
        verify(graph, Shifted(), preprocessor, split)  # type: ignore[arg-type]


def test_what_training_has_never_seen_still_gets_an_answer(exported: tuple[Any, Any, Split, GraphModel]) -> None:
    _, _, split, graph = exported
    odd = split.held_out.features.head(3).copy()
    odd['site "x"/y'] = ["nowhere", "", "left"]
    odd.iloc[1, 1:5] = np.nan
    odd.iloc[2, 6] = np.float32(1e30)
    predictions, scores = graph.answer(odd)
    assert np.isfinite(scores).all()
    assert set(predictions.ravel()) <= set(split.classes)


def test_a_missing_column_is_named(exported: tuple[Any, Any, Split, GraphModel]) -> None:
    _, _, split, graph = exported
    with pytest.raises(DataError, match="no column mean radius"):
        graph.answer(split.held_out.features.drop(columns="mean radius"))
    kinds = {column.name: column.kind for column in split.columns if column.name != "mean radius"}
    kinds["mean texture"] = ColumnKind.CATEGORICAL
    assert missing_columns(split.signature, kinds) == ("mean radius", "mean texture")


def test_a_number_can_stand_for_a_category(exported: tuple[Any, Any, Split, GraphModel]) -> None:
    _, _, split, graph = exported
    numbered = split.held_out.features.head(2).assign(**{'site "x"/y': np.array([1, 2], dtype=np.float32)})
    assert graph.answer(numbered)[0].shape == (2, 1)


def test_the_file_loads_without_any_of_our_code(exported: tuple[Any, Any, Split, GraphModel], tmp_path: Path) -> None:
    preprocessor, trainer, split, _ = exported
    path = tmp_path / "model.onnx"
    onnx.save(assemble(preprocessor, trainer, split.signature), path)
    onnx.checker.check_model(path, full_check=True)
    domains = {entry.domain for entry in onnx.load(path).opset_import}
    assert domains == {"", "ai.onnx.ml"}


def test_columns_far_from_zero_keep_their_precision() -> None:
    frame = mixed(400).assign(time=1_700_000_000 + np.arange(400) * 3600.0, year=2000.0 + np.arange(400) % 26)
    split = split_of(frame, recipe_for("Classification", "target"))
    preprocessor, trainer = trained(split, "NeuralNetwork", "Classification", "target")
    graph = GraphModel(assemble(preprocessor, trainer, split.signature).SerializeToString(), split.signature)
    assert verify(graph, trainer, preprocessor, split) <= TOLERANCE


def test_values_on_a_threshold_go_the_same_way_in_the_graph() -> None:
    # Neighbouring float32 values: thresholds between them are doubles that no float32 holds.
    steps = np.nextafter(np.float32(1), np.float32(2)) - np.float32(1)
    values = (np.float32(1) + np.arange(400, dtype=np.float32) % 7 * steps).astype(np.float64)
    frame = mixed(400).assign(n=values, target=np.where(np.arange(400) % 7 % 2 == 0, "even", "odd"))
    split = split_of(frame[["n", "target"]], recipe_for("Classification", "target"))
    preprocessor, trainer = trained(split, "LightGBM", "Classification", "target")
    graph = GraphModel(assemble(preprocessor, trainer, split.signature).SerializeToString(), split.signature)
    assert verify(graph, trainer, preprocessor, split) <= TOLERANCE
    # Seven different rows in all: those that are held out are values that training never saw.
    predictions, scores = graph.answer(split.train.features)
    assert (predictions.ravel() == np.array(split.classes)[split.train.target]).all()
    assert scores == pytest.approx(trainer.scores(preprocessor.transform(split.train.features)), abs=TOLERANCE)
