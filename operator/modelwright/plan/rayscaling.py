"""How many workers train under Ray in the pods of a gang, and what their programs are told of it."""

import json
from math import ceil
from typing import Any

from modelwright.api import ray
from modelwright.api.podtemplate import WORKER
from modelwright.api.processes import gpus
from modelwright.api.trainingjob import TrainingJobSpec, Workers
from modelwright.api.variables import RAY_RESOURCES_VARIABLE, RAY_WORKERS_VARIABLE, THREADS_VARIABLE
from modelwright.plan.actions import Object
from modelwright.plan.pods import cpus_env, env
from modelwright.plan.quantity import amount
from modelwright.plan.requests import worker_limits, worker_requests


def problem(spec: TrainingJobSpec) -> str | None:
    """Return why Ray could never place the workers of a job, as `spec.ray: ...`; None: it can, as far as one can tell.

    A claim (DRA) names a device, but not how many GPUs that is.
    """
    if spec.ray is None:
        return None
    workers = spec.workers.document()
    limits = worker_limits(workers)
    # What KubeRay puts into `ray start --num-cpus`; without that, Ray reads its own limit.
    cpus = _whole_cpus(limits, worker_requests(workers)) if spec.ray.kuberay else _whole_cpus(limits, down=True)
    pods = ray.Pods(spec.workers.replicas, gpus(limits), cpus)
    wanted = ray.scaling(spec.ray, pods)
    if wanted.gpu and not pods.gpus and _has_claims(spec.workers):
        return None
    found = ray.misfit(wanted, pods)
    return None if found is None else f"spec.ray: {found}"


def variables(asked: ray.Ray | None, workers: Workers, limits: dict[str, str | int]) -> dict[str, str]:
    """Return what the user's program reads its ScalingConfig from; `limits` are those of the container in the end."""
    if asked is None:
        return {}
    wanted = ray.scaling(asked, ray.Pods(workers.replicas, gpus(limits)))
    return {RAY_WORKERS_VARIABLE: str(wanted.workers), RAY_RESOURCES_VARIABLE: json.dumps(wanted.resources)}


def threads(asked: ray.Ray | None, replicas: int, limits: dict[str, str | int]) -> list[Object]:
    """Return the variable that gives workers which ask for no CPUs their share of those of their pod.

    For a program of the user's: Ray would take the little that such a worker is placed by for one thread. What its pod
    says it leaves alone, in all processes of the pod.
    """
    beside = ray.scaling(asked, ray.Pods(replicas, gpus(limits))).beside if asked else None
    if beside is None:
        return []
    if beside == 1:
        return [cpus_env(THREADS_VARIABLE)]
    # Kubernetes does not divide; without a limit there is nothing here to be divided.
    cpus = _whole_cpus(limits)
    return env({THREADS_VARIABLE: None if cpus is None else str(max(1, cpus // beside))})


def _whole_cpus(*resources: dict[str, str | int], down: bool = False) -> int | None:
    """Return the CPUs that Ray counts by the first that names some, for it knows no part of one; None: all there are.

    KubeRay rounds them up, Ray itself down.
    """
    try:
        found = next(filter(None, (amount(entry["cpu"]) for entry in resources if "cpu" in entry)), None)
    except ValueError:
        # For the API server to refuse.
        return None
    return None if found is None else max(1, int(found) if down else ceil(found))


def _has_claims(workers: Workers) -> bool:
    patch: Object = workers.pod_template.patch() if workers.pod_template else {}
    containers: list[Any] = (patch.get("spec") or {}).get("containers") or []
    named = [entry for entry in containers if isinstance(entry, dict) and entry.get("name") == WORKER]
    return any((entry.get("resources") or {}).get("claims") for entry in named)
