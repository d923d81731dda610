"""How many processes a pod runs, how their agents meet, and what Kubernetes calls the devices that they run on."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, WithJsonSchema

from modelwright.api.schema import LONGEST_QUANTITY

EVERY_GPU = "gpu"
"""torchrun's own word for one process for each GPU that it sees."""
RENDEZVOUS_PORT = 29400
"""Where torchrun's agents meet, at the first worker; no port that a connection is given by chance."""
PATIENCE = 1800
"""Seconds for a start that is slow. torchrun's own 60 s would call a slow image pull of one pod a failure of all."""
_SLACK = 300
"""Seconds more: of a pod that is late itself, the operator says so before its peers do; and torch is imported."""
_GPUS = frozenset({"nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe"})
_OTHERS = frozenset({"gpu", "tpu", "gaudi", "neuron"})
"""What the names of whole accelerators end in, whoever makes them."""
_PARTS = ("nvidia.com/mig-", "nvidia.com/gpu.shared")

ProcessesPerNode: TypeAlias = Annotated[
    Annotated[int, Field(ge=1, le=128)] | Literal["gpu"],
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": f"^{EVERY_GPU}$",
            "minimum": 1,
            "maximum": 128,
        }
    ),
]


def agent_arguments(*, agents: int, processes: str, restarts: int, meet_at: str, gang: str) -> tuple[str, ...]:
    """Return torchrun's arguments that are the same for every agent of a gang.

    `processes`: in each, a number or `gpu`; `restarts`: of all processes, together; `meet_at`: a host and a port;
    `gang`: its name, for agents of another one may call there as well.
    """
    return (
        f"--nnodes={agents}",
        f"--nproc-per-node={processes}",
        f"--max-restarts={restarts}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={meet_at}",
        f"--rdzv-id={gang}",
    )


def patience(startup_seconds: int) -> int:
    """Return the seconds that a pod waits for another one which has its node, and has so many to start there."""
    return max(PATIENCE, startup_seconds) + _SLACK


def gpus(limits: Mapping[str, str | int]) -> int:
    """Return how many GPUs the limits of a container give to a program.

    However many parts of GPUs there are (MIG, time slices), they count as one: a process of CUDA sees one instance of
    MIG (NVIDIA MIG user guide, "CUDA visibility"), and NCCL does not join two parts of one GPU.
    """
    whole = sum(_number(limits[name]) for name in _GPUS & limits.keys())
    parts = any(name.startswith(_PARTS) and _number(limit) for name, limit in limits.items())
    return whole or int(parts)


def accelerators(limits: Mapping[str, str | int]) -> int:
    """Return how many whole GPUs and the like a pod holds; parts of a GPU (MIG, time slices) are none."""
    names = [name for name in limits if name in _GPUS or name.rpartition("/")[2] in _OTHERS]
    return sum(_number(limits[name]) for name in names)


def _number(quantity: str | int) -> int:
    """Return a quantity of devices, which have no halves; 0 for what only the API server can refuse."""
    text = str(quantity)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= LONGEST_QUANTITY else 0
