"""Loading a version: what fits is served, what does not is refused with a sentence."""

from pathlib import Path

import pytest

from modelwright.api.artifacts import ColumnKind, InputColumn, Signature
from modelwright.api.recipe import Task
from modelwright.runtime.serve.errors import ModelLoadError
from modelwright.runtime.serve.model import Model, load
from tests.unit.serve.models import INPUTS, signature, small_model, write_version


def change(directory: Path, **fields: object) -> None:
    changed = signature().model_copy(update=fields)
    (directory / "signature.json").write_text(changed.model_dump_json(by_alias=True))


def test_a_version_is_loaded_and_warm(tmp_path: Path):
    model = small_model(tmp_path)
    assert (model.name, model.version, model.outputs) == ("churn", 3, ("prediction", "probabilities"))
    assert model.optional == {"yearly income"}
    assert 0 < model.seconds(1) <= model.seconds(1000)


def test_the_typical_row_is_from_the_middle_of_the_training_data(model: Model):
    assert model.typical_row() == {"age": 50.0, "yearly income": 100000.0, "city": "Bern"}


@pytest.mark.parametrize("name", ["model.onnx", "signature.json", "reference.json"])
def test_a_missing_file_is_named(version_directory: Path, name: str):
    write_version(version_directory)
    (version_directory / name).unlink()
    with pytest.raises(ModelLoadError, match=f"churn version 3 lacks the file {name}"):
        load("churn", 3, version_directory, 1)


def test_a_file_that_is_no_model_is_refused(version_directory: Path):
    write_version(version_directory)
    (version_directory / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelLoadError, match=r"model\.onnx cannot be loaded"):
        load("churn", 3, version_directory, 1)


def test_a_document_that_does_not_parse_is_named(version_directory: Path):
    write_version(version_directory)
    (version_directory / "signature.json").write_text('{"task": "Guessing"}')
    with pytest.raises(ModelLoadError, match="invalid Signature: task"):
        load("churn", 3, version_directory, 1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"inputs": INPUTS[:2]}, "no column for the graph's input city"),
        (
            {"inputs": (*INPUTS, InputColumn(name="x", input="x", kind=ColumnKind.NUMERIC))},
            "no numeric input x for column x",
        ),
        (
            {"inputs": (*INPUTS[:2], InputColumn(name="city", input="city", kind=ColumnKind.NUMERIC))},
            "no numeric input city",
        ),
        ({"prediction_output": "answer"}, "no output answer"),
        ({"probabilities_output": "odds"}, "no output odds"),
    ],
)
def test_a_signature_that_does_not_fit_the_graph_is_refused(version_directory: Path, fields: dict, words: str):
    write_version(version_directory)
    change(version_directory, **fields)
    with pytest.raises(ModelLoadError, match=words):
        load("churn", 3, version_directory, 1)


@pytest.mark.parametrize(
    ("task", "fields", "words"),
    [
        (Task.CLASSIFICATION, {"classes": ("a", "b", "c")}, "not one probability for each of 3 classes"),
        (Task.CLASSIFICATION, {"task": Task.REGRESSION}, "has the type object, not float32"),
        (Task.CLASSIFICATION, {"prediction_output": "probabilities", "task": Task.REGRESSION}, "2 values for 1 rows"),
    ],
)
def test_a_graph_that_answers_otherwise_than_it_says_is_found_while_warming_up(
    version_directory: Path, task: Task, fields: dict, words: str
):
    write_version(version_directory, task)
    change(version_directory, **fields)
    with pytest.raises(ModelLoadError, match=words):
        load("churn", 3, version_directory, 1).warm_up()


def test_signatures_without_a_reference_column_still_have_a_typical_row(version_directory: Path):
    write_version(version_directory)
    bare = '{"rows": 0, "columns": [], "prediction": {"name": "p", "kind": "Categorical", "counts": []}}'
    (version_directory / "reference.json").write_text(bare)
    model = load("churn", 3, version_directory, 1)
    model.warm_up()
    assert model.typical_row() == {"age": 0.0, "yearly income": 0.0, "city": ""}
    assert model.optional == frozenset()


def test_the_signature_of_the_test_model_is_one():
    assert Signature.model_validate(signature().document()) == signature()
