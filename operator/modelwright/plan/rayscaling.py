"""How many workers train under Ray in the pods of a gang, and what their programs are told of it."""

import json
from typing import Any

from modelwright.api import ray
from modelwright.api.podtemplate import WORKER
from modelwright.api.processes import gpus
from modelwright.api.trainingjob import TrainingJobSpec, Workers
from modelwright.api.variables import RAY_RESOURCES_VARIABLE, RAY_WORKERS_VARIABLE
from modelwright.plan.actions import Object
from modelwright.plan.quantity import amount
from modelwright.plan.requests import worker_limits


def problem(spec: TrainingJobSpec) -> str | None:
    """Return why Ray could never place the workers of a job, as `spec.ray: ...`; None: it can, as far as one can tell.

    A claim (DRA) names a device, but not how many GPUs that is.
    """
    if spec.ray is None:
        return None
    pods = _pods(spec.workers, worker_limits(spec.workers.document()))
    wanted = ray.scaling(spec.ray, pods)
    if wanted.gpu and not pods.gpus and _has_claims(spec.workers):
        return None
    found = ray.misfit(wanted, pods)
    return None if found is None else f"spec.ray: {found}"


def variables(asked: ray.Ray | None, workers: Workers, limits: dict[str, str | int]) -> dict[str, str]:
    """Return what the user's program reads its ScalingConfig from; `limits` are those of the container in the end."""
    if asked is None:
        return {}
    wanted = ray.scaling(asked, _pods(workers, limits))
    return {RAY_WORKERS_VARIABLE: str(wanted.workers), RAY_RESOURCES_VARIABLE: json.dumps(wanted.resources)}


def _pods(workers: Workers, limits: dict[str, str | int]) -> ray.Pods:
    return ray.Pods(workers.replicas, gpus(limits), _whole_cpus(limits.get("cpu")))


def _whole_cpus(limit: str | int | None) -> int | None:
    """Return the CPUs that Ray makes of a limit: it knows no part of one."""
    try:
        return None if limit is None else max(1, int(amount(limit)))
    except ValueError:
        # For the API server to refuse.
        return None


def _has_claims(workers: Workers) -> bool:
    patch: Object = workers.pod_template.patch() if workers.pod_template else {}
    containers: list[Any] = (patch.get("spec") or {}).get("containers") or []
    named = [entry for entry in containers if isinstance(entry, dict) and entry.get("name") == WORKER]
    return any((entry.get("resources") or {}).get("claims") for entry in named)
