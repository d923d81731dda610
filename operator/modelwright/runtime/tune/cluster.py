"""The pods of the gang as Ray sees them, and what each trial gets of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ray

from modelwright.api.processes import PATIENCE
from modelwright.runtime import preflight
from modelwright.runtime.failure import RunError

_FINEST = 10_000
"""Ray counts resources in ten-thousandths."""


@dataclass(frozen=True)
class Share:
    """What one trial may use."""

    cpus: float
    gpus: float


def wait_for_nodes(
    wanted: int,
    patience: float = PATIENCE,
    pause: Callable[[float], None] = time.sleep,
    placed: Callable[[], bool] = preflight.all_placed,
) -> None:
    """Wait until every pod of the gang has joined. Raises `RunError` WorkersMissing.

    Time counts only when all have been `placed` on a node.
    """
    waited = 0.0
    while (joined := len(_alive())) < wanted:
        if waited >= patience:
            message = f"{joined} of {wanted} pods joined the Ray cluster within {patience:.0f} s"
            raise RunError("WorkersMissing", message, retryable=True)
        pause(1.0)
        waited += float(placed())


def share_of(parallelism: int) -> Share:
    """Return what a trial gets when so many shall run at the same time on the nodes that are there."""
    nodes = [node["Resources"] for node in _alive()]
    gpus = [float(node.get("GPU", 0)) for node in nodes]
    share = per_trial(gpus, parallelism) if any(gpus) else 0.0
    # A trial is one process, and that trains on one device.
    return Share(per_trial([float(node.get("CPU", 0)) for node in nodes], parallelism), min(share, 1.0))


def per_trial(nodes: Sequence[float], parallelism: int) -> float:
    """Return the largest share of a resource such that all trials fit, none of them split between nodes.

    Three nodes of 2 CPUs and four trials: 1, because with 1.5 only three would fit.
    """
    candidates = {capacity / k for capacity in nodes if capacity > 0 for k in range(1, parallelism + 1)}
    # Rounded down to what Ray can count, so that k shares still fit into the node that they were cut from.
    rounded = sorted({int(candidate * _FINEST) / _FINEST for candidate in candidates} - {0.0}, reverse=True)
    for share in rounded:
        if sum(int((capacity + 1e-9) / share) for capacity in nodes) >= parallelism:
            # Above one, Ray wants whole GPUs, and threads come whole as well.
            return float(int(share)) if share > 1 else share
    return 1.0


def _alive() -> list[dict[str, dict[str, float]]]:
    return [node for node in ray.nodes() if node["Alive"]]
