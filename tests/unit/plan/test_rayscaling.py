"""What a job's wishes about Ray's workers come to, and what is told of them."""

from typing import Any

import pytest

from modelwright.api.ray import Ray
from modelwright.api.trainingjob import TrainingJobSpec, Workers
from modelwright.plan.rayscaling import problem, variables

RECIPE = {"framework": "Ray", "recipe": {"tabular": {"task": "Classification", "target": "y"}}}
GPU = {"resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "1500m"}}}


def spec(ray: dict[str, Any] | None, **workers: Any) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate({**RECIPE, "ray": ray, "workers": {"replicas": 2, **workers}})


@pytest.mark.parametrize(
    ("ray", "workers"),
    [
        (None, {}),
        ({}, {}),
        ({"numWorkers": 4, "resourcesPerWorker": {"gpu": 0.5}}, GPU),
        # A claim tells nobody how many GPUs it is.
        (
            {"resourcesPerWorker": {"gpu": 2}},
            {
                "podTemplate": {
                    "spec": {"containers": [{"name": "worker", "resources": {"claims": [{"name": "gpus"}]}}]}
                }
            },
        ),
    ],
)
def test_workers_that_fit_are_no_problem(ray: dict[str, Any] | None, workers: dict[str, Any]) -> None:
    assert problem(spec(ray, **workers)) is None


def test_workers_that_never_fit_are_told_before_a_pod_is_made() -> None:
    assert problem(spec({"resourcesPerWorker": {"gpu": 0.5}})) == (
        "spec.ray: resourcesPerWorker.gpu needs GPUs: ask for some in workers.resources.limits"
    )
    found = problem(spec({"resourcesPerWorker": {"cpu": 2}}, **GPU))
    assert found is not None
    assert "a pod has 1 GPU and 1 whole CPU" in found, "Ray knows no part of a CPU"


def test_a_program_is_told_what_its_scaling_config_should_be() -> None:
    workers = Workers.model_validate({"replicas": 2})
    half = Ray.model_validate({"resourcesPerWorker": {"gpu": 0.5, "cpu": 1}})
    assert variables(half, workers, {"nvidia.com/gpu": "1"}) == {
        "MODELWRIGHT_RAY_NUM_WORKERS": "4",
        "MODELWRIGHT_RAY_RESOURCES_PER_WORKER": '{"CPU": 1.0, "GPU": 0.5}',
    }
    assert variables(None, workers, {}) == {}
