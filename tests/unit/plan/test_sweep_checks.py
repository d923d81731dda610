"""What is said about a search that would change nothing, before it costs anything."""

from typing import Any

import pytest

from modelwright.api.tuningsweep import TuningSweepSpec
from modelwright.plan.sweep_checks import problem

TREES = {"name": "lightGBM.numLeaves", "int": {"min": 7, "max": 63}}
NETWORK = {"name": "neuralNetwork.epochs", "int": {"min": 5, "max": 9}}


def sweep(*space: dict[str, Any], algorithm: str = "NeuralNetwork") -> TuningSweepSpec:
    recipe = {"tabular": {"task": "Regression", "target": "y", "algorithm": algorithm}}
    return TuningSweepSpec.model_validate(
        {"template": {"recipe": recipe}, "searchSpace": space, "objective": {"metric": "rmse"}}
    )


def algorithms(*names: str) -> dict[str, Any]:
    return {"name": "algorithm", "choice": {"values": names}}


@pytest.mark.parametrize(
    ("spec", "dimension", "owner", "whose"),
    [
        (sweep(NETWORK, algorithm="LightGBM"), "neuralNetwork.epochs", "NeuralNetwork", "not the template's"),
        (sweep(NETWORK, algorithms("LightGBM")), "neuralNetwork.epochs", "NeuralNetwork", "no trial's"),
        (sweep(TREES, algorithms("NeuralNetwork")), "lightGBM.numLeaves", "LightGBM", "no trial's"),
    ],
)
def test_a_dimension_that_no_trial_would_feel_is_named(
    spec: TuningSweepSpec, dimension: str, owner: str, whose: str
) -> None:
    assert problem(spec) == (
        f"searchSpace {dimension}: {owner} is {whose} algorithm, so this has no effect: "
        f"search algorithm with {owner} too, or leave this out"
    )


@pytest.mark.parametrize(
    "spec",
    [
        sweep(NETWORK),
        sweep(TREES, algorithm="LightGBM"),
        sweep(TREES, NETWORK, algorithms("NeuralNetwork", "LightGBM")),
        sweep(TREES, algorithms("LightGBM")),
        sweep(algorithms("LightGBM")),
    ],
)
def test_a_dimension_that_some_trial_feels_is_searched(spec: TuningSweepSpec) -> None:
    assert problem(spec) is None


@pytest.mark.parametrize(
    ("template", "remedy"),
    [
        ({"workers": {"replicas": 2}}, "template.workers.replicas must be 1"),
        ({"workers": {"processesPerNode": 2}}, "leave template.workers.processesPerNode out"),
        ({"workers": {"processesPerNode": "gpu"}}, "leave template.workers.processesPerNode out"),
        ({"framework": "Ray", "ray": {"numWorkers": 2}}, "template.ray.numWorkers must be 1"),
    ],
)
def test_a_winner_that_could_not_be_trained_is_told_of_before_the_search(template: dict[str, Any], remedy: str) -> None:
    spec = sweep(algorithms("NeuralNetwork", "LightGBM")).model_dump(by_alias=True, exclude_none=True)
    spec["template"] |= template
    trained = TuningSweepSpec.model_validate({**spec, "winner": {"train": True}})
    assert problem(trained) == f"searchSpace algorithm: LightGBM trains in one process, so {remedy}"
    assert problem(TuningSweepSpec.model_validate({**spec, "winner": {"train": False}})) is None
