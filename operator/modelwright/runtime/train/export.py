"""One ONNX graph from the user's columns to the answer, and the proof that it answers as the trained model does."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, version_converter

from modelwright.api.artifacts import Signature
from modelwright.runtime.failure import RunError
from modelwright.runtime.train.answers import GraphModel
from modelwright.runtime.train.columns import Floats
from modelwright.runtime.train.preprocessing import TARGET_OPSET, Preprocessor
from modelwright.runtime.train.problem import Rows, Split
from modelwright.runtime.train.trainer import Trainer

TOLERANCE = 1e-5
"""Largest difference allowed: of probabilities, or of estimates in units of the target's magnitude."""
_IR_VERSION = 10


def assemble(preprocessor: Preprocessor, trainer: Trainer, signature: Signature) -> onnx.ModelProto:
    """Return the whole graph, checked by ONNX: inputs and outputs are as the signature says."""
    first = _at_common_opset(preprocessor.graph())
    second = _at_common_opset(trainer.graph())
    features = first.graph.output[0].name
    # The prefix keeps names that both converters chose apart; inputs of the whole keep the names in the signature.
    second = compose.add_prefix(second, "model_", inplace=True)
    scores = next(output.name for output in second.graph.output if output.name != "model_label")
    merged: onnx.ModelProto = compose.merge_models(
        first, second, io_map=[(features, second.graph.input[0].name)], outputs=[scores]
    )
    _name_answers(merged.graph, scores, signature)
    merged.producer_name = "modelwright"
    onnx.checker.check_model(merged, full_check=True)
    return merged


def verify(graph: GraphModel, trainer: Trainer, preprocessor: Preprocessor, split: Split) -> float:
    """Return the largest difference between the graph's answers and the trained model's on the held-out rows.

    Raises `RunError` ExportMismatch when it is above the tolerance, or when labels and probabilities disagree.
    """
    rows: Rows = split.held_out
    expected = trainer.scores(preprocessor.transform(rows.features))
    labels, given = graph.answer(rows.features)
    difference = float(np.abs(given - expected).max()) / _magnitude(expected, split)
    if not difference <= TOLERANCE:
        raise RunError(
            "ExportMismatch", f"The exported graph differs from the trained model by {difference:.2e}", retryable=False
        )
    if split.classes and (np.array(split.classes)[given.argmax(axis=1)] != labels[:, 0]).any():
        raise RunError("ExportMismatch", "The exported graph's labels are not its likeliest classes", retryable=False)
    return difference


def _magnitude(expected: Floats, split: Split) -> float:
    return 1.0 if split.classes else float(np.abs(expected).max()) or 1.0


def _at_common_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the operator sets that all parts share; a converter chooses the oldest that will do."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
    converted: onnx.ModelProto = version_converter.convert_version(model, TARGET_OPSET[""])
    del converted.opset_import[:]
    # What is used of ai.onnx.ml (Imputer, Scaler, OneHotEncoder, TreeEnsemble*) means the same in versions 1 and 3.
    converted.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in TARGET_OPSET.items())
    converted.ir_version = _IR_VERSION
    return converted


def _name_answers(graph: onnx.GraphProto, scores: str, signature: Signature) -> None:
    del graph.output[:]
    graph.output.extend(_outputs(signature))
    graph.node.extend(_answer_nodes(scores, signature))
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "rows"


def _outputs(signature: Signature) -> Iterator[onnx.ValueInfoProto]:
    if signature.probabilities_output is None:
        yield helper.make_tensor_value_info(signature.prediction_output, TensorProto.FLOAT, ["rows", 1])
        return
    shape = ["rows", len(signature.classes)]
    yield helper.make_tensor_value_info(signature.prediction_output, TensorProto.STRING, ["rows", 1])
    yield helper.make_tensor_value_info(signature.probabilities_output, TensorProto.FLOAT, shape)


def _answer_nodes(scores: str, signature: Signature) -> Iterator[onnx.NodeProto]:
    if signature.probabilities_output is None:
        yield helper.make_node("Identity", [scores], [signature.prediction_output])
        return
    yield helper.make_node("Identity", [scores], [signature.probabilities_output])
    yield helper.make_node("ArgMax", [scores], ["likeliest"], axis=1, keepdims=1)
    yield helper.make_node(
        "LabelEncoder",
        ["likeliest"],
        [signature.prediction_output],
        domain="ai.onnx.ml",
        keys_int64s=list(range(len(signature.classes))),
        values_strings=list(signature.classes),
    )
