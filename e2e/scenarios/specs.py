"""The resources that scenarios apply: small, and spelt as a user would."""

import copy
from typing import Any

from e2e.support.flights import TARGET
from e2e.support.resources import Object

MODEL = "flight-delay"
PROMOTION: Object = {"alias": "champion", "metric": "roc_auc"}
_API = "modelwright.dev/v1alpha1"
# Requests are low so that many pods fit on a node of two cores. One CPU each: threads of two pods that spin for the
# same core wait for each other most of the time.
_POD: Object = {"resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "4Gi"}}}


def trees(name: str, uri: str, model: str) -> Object:
    """Return a TrainingJob that is over in seconds: boosted trees in one pod."""
    return _training_job(name, uri, model, {"algorithm": "LightGBM", "lightGBM": {"numTrees": 40}}, replicas=1)


def network(name: str, uri: str, model: str, *, replicas: int, steps: int) -> Object:
    """Return a TrainingJob of a network, with a checkpoint every second.

    An epoch is one step over all rows: on a busy machine few large steps are slowed down in proportion, while many
    small ones of a gang would mostly wait for each other.
    """
    parameters = {"epochs": steps, "batchSize": 65536, "hiddenUnits": 512, "learningRate": 0.002}
    recipe = {"algorithm": "NeuralNetwork", "neuralNetwork": parameters}
    return _training_job(name, uri, model, recipe, replicas=replicas)


def command(name: str, program: str, *, replicas: int, framework: str = "PyTorch") -> Object:
    """Return a TrainingJob that runs a Python program of the user's own."""
    workers = {"replicas": replicas, "command": ["python", "-c", program], **_POD}
    return _object("TrainingJob", name, {"framework": framework, "workers": workers})


def deployment(name: str, model: str = MODEL, **reference: Any) -> Object:
    """Return a ModelDeployment whose servers go quickly and write windows often."""
    server = {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}}
    return _object(
        "ModelDeployment",
        name,
        {
            "model": {"name": model, **(reference or {"alias": "champion"})},
            "server": server,
            "monitoring": {"windowSeconds": 5},
            "rollout": {"drainSeconds": 3, "progressDeadlineSeconds": 60},
        },
    )


def policy(name: str, watched: str, spec: Object) -> Object:
    """Return a DriftPolicy."""
    return _object("DriftPolicy", name, {"deployment": {"name": watched}, **spec})


def sweep(name: str, job: Object, spec: Object) -> Object:
    """Return a TuningSweep over a TrainingJob, on two pods."""
    return _object("TuningSweep", name, {"template": job["spec"], "workers": {"replicas": 2, **_POD}, **spec})


def changed(entry: Object, **changes: Any) -> Object:
    """Return an object with changes merged into its spec."""
    return {**entry, "spec": _merged(entry["spec"], changes)}


def _training_job(name: str, uri: str, model: str, recipe: Object, *, replicas: int) -> Object:
    tabular = {"task": "Classification", "target": TARGET, **recipe}
    return _object(
        "TrainingJob",
        name,
        {
            "workers": {"replicas": replicas, **_POD},
            "recipe": {"tabular": tabular},
            "dataset": {"uri": uri},
            "checkpoint": {"everySeconds": 1},
            "failurePolicy": {"backoffSeconds": 0},
            "model": {"name": model},
        },
    )


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": _API, "kind": kind, "metadata": {"name": name}, "spec": copy.deepcopy(spec)}


def _merged(base: Object, changes: Object) -> Object:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if nested else value
    return merged
