"""How many GPUs the limits of a container mean."""

import pytest
from pydantic import ValidationError

from modelwright.api.processes import gpus
from modelwright.api.trainingjob import Workers


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({}, 0),
        ({"cpu": "8", "memory": "64Gi"}, 0),
        ({"nvidia.com/gpu": 8}, 8),
        ({"nvidia.com/gpu": "2", "rdma/hca": 1}, 2),
        ({"amd.com/gpu": "4"}, 4),
        ({"gpu.intel.com/i915": 2}, 2),
        ({"gpu.intel.com/xe": "1"}, 1),
        ({"nvidia.com/gpu": "0"}, 0),
        ({"nvidia.com/mig-1g.10gb": 2}, 1),
        ({"nvidia.com/mig-1g.10gb": "0"}, 0),
        ({"nvidia.com/gpu.shared": "4"}, 1),
        ({"nvidia.com/gpu": "1k"}, 0),
        ({"nvidia.com/gpu": "9" * 5000}, 0),
    ],
)
def test_devices_are_recognised_by_their_names(limits: dict[str, str | int], count: int) -> None:
    assert gpus(limits) == count


@pytest.mark.parametrize("asked", [1, 128, "gpu"])
def test_processes_are_a_number_or_one_for_each_gpu(asked: object) -> None:
    assert Workers.model_validate({"processesPerNode": asked}).processes_per_node == asked


@pytest.mark.parametrize("asked", [0, 129, "cpu", "auto"])
def test_nothing_else_is_a_number_of_processes(asked: object) -> None:
    with pytest.raises(ValidationError):
        Workers.model_validate({"processesPerNode": asked})
