"""The placeholder of an elastic gang: pods that do nothing, where more of its workers would have to fit.

It holds what it found for as long as the gang needs to come, and not longer: it ends by itself, so that an operator
that is down costs nobody a node.
"""

from collections.abc import Mapping
from decimal import Decimal

from modelwright.api.elastic import Elastic
from modelwright.plan import gang
from modelwright.plan.actions import Object
from modelwright.plan.gang import Gang
from modelwright.plan.names import child_name
from modelwright.plan.observed import ATTEMPT_LABEL, PLACEHOLDER_LABEL
from modelwright.plan.pods import GRACE, metadata
from modelwright.plan.requests import of_pod
from modelwright.plan.settings import Settings

_SLACK = 60
"""Seconds for the operator to see what has happened and to do something about it."""
_KEPT = frozenset({"name", "image", "imagePullPolicy", "securityContext", "ports", "terminationMessagePolicy"})
"""Of the container: what decides where it may run, and the image, so that it is there when the gang comes."""
_DROPPED = frozenset(
    {"containers", "initContainers", "volumes", "subdomain", "terminationGracePeriodSeconds"}
    # Room for one more worker is worth having: they are placed one by one, and not counted to the gang that trains.
    | {"schedulingGroup"}
)


def name_of(owner: Object, attempt: int) -> str:
    """Return the name of the Job that looks for room for an attempt."""
    # Shorter than the Job of an attempt by what Kubernetes adds for each pod.
    return child_name(gang.job_name(owner, attempt), "room", gang.JOB_NAME_LIMIT)


def placeholder(spec: Gang, elastic: Elastic, pods: int, settings: Settings) -> Object:
    """Return the Job of so many pods; `spec` is the attempt that would have them too."""
    template = _template(gang.job(spec, settings)["spec"]["template"], str(spec.run.attempt), elastic)
    (container,) = template["spec"]["containers"]
    body = {
        "completions": pods,
        "parallelism": pods,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        # The first pod whose time is up takes the others with it: also those that have found no node yet.
        "successPolicy": {"rules": [{"succeededCount": 1}]},
        # Nor may those hold a node for ever that have one and do not start.
        "activeDeadlineSeconds": spec.run.training.failure_policy.startup_timeout_seconds
        + int(container["command"][1]),
        "ttlSecondsAfterFinished": elastic.grow_after_seconds,
        "template": template,
    }
    meta = metadata(spec.owner, name_of(spec.owner, spec.run.attempt), {PLACEHOLDER_LABEL: str(spec.run.attempt)})
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": body}


def _template(made: Object, attempt: str, elastic: Elastic) -> Object:
    """Return the pod template of a gang as one that only takes its place."""
    pod, (worker, *_) = made["spec"], made["spec"]["containers"]
    grace = int(pod.get("terminationGracePeriodSeconds") or GRACE)
    container = {
        **{name: value for name, value in worker.items() if name in _KEPT},
        "resources": _resources(pod, worker.get("resources") or {}),
        "command": ["sleep", str(elastic.wait_seconds + grace + _SLACK)],
    }
    # A claim, also one of its own, may keep a pod from some nodes; anything else that is mounted does not.
    claims = [volume for volume in pod.get("volumes") or () if {"persistentVolumeClaim", "ephemeral"} & set(volume)]
    labels = {name: value for name, value in made["metadata"]["labels"].items() if name != ATTEMPT_LABEL}
    return {
        "metadata": {**made["metadata"], "labels": {**labels, PLACEHOLDER_LABEL: attempt}},
        "spec": {
            **{name: value for name, value in pod.items() if name not in _DROPPED},
            "containers": [container],
            **({"volumes": claims} if claims else {}),
            # Sleeping, it hears no SIGTERM, and there is nothing to save.
            "terminationGracePeriodSeconds": 1,
        },
    }


def _resources(pod: Object, own: Object) -> Object:
    """Return what the container asks for, such that the pod asks for what one with its init containers would."""
    if not pod.get("initContainers") or pod.get("resources"):
        return own
    wanted = _quantities(of_pod({name: value for name, value in pod.items() if name != "overhead"}))
    limits = own.get("limits") or {}
    # Devices and huge pages must have a limit, and no other than what is requested.
    raised = {name: value for name, value in wanted.items() if name in limits or "/" in name or "hugepages-" in name}
    return {**own, "requests": wanted, "limits": {**limits, **raised}}


def _quantities(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: format(amount, "f") for name, amount in amounts.items()}
