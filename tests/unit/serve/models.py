"""A small model, made by hand: a score from age, income and city, and a label from the score."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelwright.api.artifacts import ColumnKind, InputColumn, Reference, ReferenceColumn, Signature
from modelwright.api.recipe import Task
from modelwright.runtime.serve.model import Model, load

CITIES = ("Basel", "Bern")
CLASSES = ("no", "yes")
INPUTS = (
    InputColumn(name="age", input="age", kind=ColumnKind.NUMERIC),
    InputColumn(name="yearly income", input="yearly_income", kind=ColumnKind.NUMERIC),
    InputColumn(name="city", input="city", kind=ColumnKind.CATEGORICAL),
)
NUMERIC_COUNTS = (10, 20, 10, 0)
REFERENCE = Reference(
    rows=40,
    columns=(
        ReferenceColumn(name="age", kind=ColumnKind.NUMERIC, edges=(30.0, 50.0), counts=NUMERIC_COUNTS),
        ReferenceColumn(name="yearly income", kind=ColumnKind.NUMERIC, edges=(1e4, 1e5), counts=(9, 20, 10, 1)),
        ReferenceColumn(name="city", kind=ColumnKind.CATEGORICAL, categories=CITIES, counts=(10, 25, 5, 0)),
    ),
    prediction=ReferenceColumn(
        name="__prediction__", kind=ColumnKind.CATEGORICAL, categories=CLASSES, counts=(30, 10, 0, 0)
    ),
)
ROW = {"age": 41, "yearly income": 52000.5, "city": "Bern"}


def _graph(task: Task) -> onnx.ModelProto:
    """score = age / 100 + [city is Bern]; missing numbers count as 0; P(yes) = sigmoid(score)."""
    ml = "ai.onnx.ml"
    nodes = [
        helper.make_node("IsNaN", ["age"], ["age_missing"]),
        helper.make_node("Where", ["age_missing", "zero", "age"], ["age_filled"]),
        helper.make_node("IsNaN", ["yearly_income"], ["income_missing"]),
        helper.make_node("Where", ["income_missing", "zero", "yearly_income"], ["income_filled"]),
        helper.make_node(
            "LabelEncoder", ["city"], ["city_code"], domain=ml, keys_strings=CITIES, values_floats=[0.0, 1.0],
            default_float=0.5,
        ),
        helper.make_node("Concat", ["age_filled", "income_filled", "city_code"], ["features"], axis=1),
        helper.make_node("MatMul", ["features", "weights"], ["score"]),
    ]  # fmt: skip
    outputs = [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None, 1])]
    if task is Task.REGRESSION:
        nodes[-1].output[0] = "prediction"
    else:
        nodes += [
            helper.make_node("Sigmoid", ["score"], ["p_yes"]),
            helper.make_node("Sub", ["one", "p_yes"], ["p_no"]),
            helper.make_node("Concat", ["p_no", "p_yes"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=1),
            helper.make_node(
                "LabelEncoder", ["index"], ["prediction"], domain=ml, keys_int64s=[0, 1], values_strings=CLASSES
            ),
        ]
        outputs = [
            helper.make_tensor_value_info("prediction", TensorProto.STRING, [None, 1]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ]
    constants = [
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("weights", TensorProto.FLOAT, [3, 1], [0.01, 0.0, 1.0]),
    ]
    inputs = [
        helper.make_tensor_value_info("age", TensorProto.FLOAT, [None, 1]),
        helper.make_tensor_value_info("yearly_income", TensorProto.FLOAT, [None, 1]),
        helper.make_tensor_value_info("city", TensorProto.STRING, [None, 1]),
    ]
    graph = helper.make_graph(nodes, "score", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ml, 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def signature(task: Task = Task.CLASSIFICATION) -> Signature:
    if task is Task.REGRESSION:
        return Signature(task=task, target="score", inputs=INPUTS)
    return Signature(task=task, target="buys", inputs=INPUTS, classes=CLASSES, probabilities_output="probabilities")


def reference(task: Task = Task.CLASSIFICATION) -> Reference:
    if task is Task.CLASSIFICATION:
        return REFERENCE
    numbers = ReferenceColumn(name="__prediction__", kind=ColumnKind.NUMERIC, edges=(0.5,), counts=(20, 20, 0))
    return REFERENCE.model_copy(update={"prediction": numbers})


def write_version(directory: Path, task: Task = Task.CLASSIFICATION) -> Path:
    """Write the files of a version that a server reads."""
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(_graph(task), directory / "model.onnx")
    (directory / "signature.json").write_text(signature(task).model_dump_json(by_alias=True))
    (directory / "reference.json").write_text(reference(task).model_dump_json(by_alias=True))
    return directory


def small_model(directory: Path, task: Task = Task.CLASSIFICATION) -> Model:
    """Return the model, loaded and warm, as version 3 of `churn`."""
    model = load("churn", 3, write_version(directory, task), threads=1)
    model.warm_up()
    return model


def probability(age: float, city: float) -> float:
    """Return P(yes) of the small model, the way numpy computes it."""
    return float(1 / (1 + np.exp(-(age / 100 + city))))
