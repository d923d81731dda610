"""The feed-forward network: in torch while it learns, in ONNX when it has learnt."""

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from modelwright.api.recipe import NeuralNetworkParameters
from modelwright.runtime.train.columns import Floats
from modelwright.runtime.train.preprocessing import TARGET_OPSET

_CHUNK = 65536
"""Rows that go through the network at once where nothing is learnt."""


def build(inputs: int, outputs: int, parameters: NeuralNetworkParameters) -> Any:
    """Return a `torch.nn.Sequential` of linear layers, ReLU and dropout; its initial weights follow torch's seed."""
    layers: list[Any] = []
    width = inputs
    for _ in range(parameters.hidden_layers):
        layers += [
            torch.nn.Linear(width, parameters.hidden_units),
            torch.nn.ReLU(),
            torch.nn.Dropout(parameters.dropout),
        ]
        width = parameters.hidden_units
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, outputs))


def to_onnx(network: Any, *, classifies: bool, mean: float, deviation: float) -> onnx.ModelProto:
    """Return the network as ONNX: `features` to `scores`.

    Classification ends in a softmax; regression in `mean + deviation * output`, in the target's own unit. The nodes are
    written directly: for a chain of linear layers that is exact, and takes no tracing.
    """
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value = "features"
    for number, layer in enumerate(network):
        if isinstance(layer, torch.nn.Linear):
            weights += [
                numpy_helper.from_array(layer.weight.detach().cpu().numpy(), f"weight{number}"),
                numpy_helper.from_array(layer.bias.detach().cpu().numpy(), f"bias{number}"),
            ]
            gemm = [value, f"weight{number}", f"bias{number}"]
            nodes.append(helper.make_node("Gemm", gemm, [f"layer{number}"], transB=1))
        elif isinstance(layer, torch.nn.ReLU):
            nodes.append(helper.make_node("Relu", [value], [f"layer{number}"]))
        else:
            continue  # dropout does nothing once training is over
        value = f"layer{number}"
    if classifies:
        nodes.append(helper.make_node("Softmax", [value], ["scores"], axis=1))
    else:
        weights += [
            numpy_helper.from_array(np.float32(deviation), "deviation"),
            numpy_helper.from_array(np.float32(mean), "mean"),
        ]
        nodes.append(helper.make_node("Mul", [value, "deviation"], ["scaled"]))
        nodes.append(helper.make_node("Add", ["scaled", "mean"], ["scores"]))
    inputs, outputs = network[0].in_features, network[-1].out_features
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", outputs])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", TARGET_OPSET[""])])


def scores(network: Any, features: Floats, *, classifies: bool, mean: float, deviation: float) -> Floats:
    """Return the answers of the network itself, for evaluation and to check the graph by."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    with torch.no_grad():
        # In pieces: the values of the hidden layers of all rows at once can be many times the table.
        outputs = [network(piece.to(device)) for piece in torch.from_numpy(features).split(_CHUNK)]
        output = torch.cat(outputs)
        answer = torch.softmax(output, dim=1) if classifies else output * deviation + mean
    network.train(was_training)
    return np.asarray(answer.cpu().numpy(), dtype=np.float32)
