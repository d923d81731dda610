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


@pytest.mark.parametrize(
    ("resources", "kuberay", "cpus"),
    [
        # Ray reads the limit of its container, and rounds it down; without one it has the CPUs of the node.
        ({"limits": {"cpu": "1500m"}}, False, 1),
        ({"requests": {"cpu": 1}}, False, None),
        ({"limits": {"cpu": 0}}, False, None),
        # KubeRay tells it the limit, or else the request, and rounds up.
        ({"limits": {"cpu": "1500m"}}, True, 2),
        ({"requests": {"cpu": 1}, "limits": {"cpu": 3}}, True, 3),
        ({"requests": {"cpu": 1}}, True, 1),
        ({"requests": {"cpu": "1200m"}, "limits": {"cpu": 0, "memory": "1Gi"}}, True, 2),
        ({"requests": {"cpu": 0}}, True, None),
        ({}, True, None),
        ({"requests": {"cpu": "one"}}, True, None),
    ],
)
@pytest.mark.parametrize("templated", [False, True])
def test_a_pod_has_as_many_cpus_as_whoever_starts_ray_makes_of_its_resources(
    *, resources: dict[str, Any], kuberay: bool, cpus: int | None, templated: bool
) -> None:
    override = {"podTemplate": {"spec": {"containers": [{"name": "worker", "resources": resources}]}}}
    workers = override if templated else {"resources": resources}

    def found(cpu: int) -> str | None:
        return problem(spec({"kuberay": kuberay, "resourcesPerWorker": {"cpu": cpu}}, **workers))

    if cpus is None:
        assert found(1024) is None
        return
    assert found(cpus) is None
    said = found(cpus + 1)
    assert said is not None
    assert f"a pod has {cpus} whole CPU, which is room for 0" in said


def test_a_program_is_told_what_its_scaling_config_should_be() -> None:
    workers = Workers.model_validate({"replicas": 2})
    half = Ray.model_validate({"resourcesPerWorker": {"gpu": 0.5, "cpu": 1}})
    assert variables(half, workers, {"nvidia.com/gpu": "1"}) == {
        "MODELWRIGHT_RAY_NUM_WORKERS": "4",
        "MODELWRIGHT_RAY_RESOURCES_PER_WORKER": '{"CPU": 1.0, "GPU": 0.5}',
    }
    assert variables(None, workers, {}) == {}
