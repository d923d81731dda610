"""What a RayJob and its pods tell, in the words of a Job: so planners need not know which of the two an attempt is."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.podtemplate import WORKER
from modelwright.plan import podstatus
from modelwright.plan.actions import Object
from modelwright.plan.failures import MORE_MEMORY, Cause, Loss, classify
from modelwright.plan.podstatus import RAY_CLUSTER_LABEL, RAY_TYPE_LABEL
from modelwright.plan.rayjob import KIND
from modelwright.plan.times import seconds_between

SETTLE = 10.0
"""Seconds from the start of the driver, for which all pods ran, until one that is not seen to run is believed gone."""
_STARTED = frozenset({"Initializing", "Running", "Waiting", "Complete", "Failed"})
_OVER = frozenset({"Complete", "Failed", "ValidationFailed"})
_ENTRYPOINT = re.compile(
    r"^Job entrypoint command failed with exit code (-?\d+)(?:, last available logs[^\n]*:\n|\. No logs available\.)?",
    re.ASCII,
)
"""What a Ray job says of a driver that failed (ray/dashboard/modules/job/job_supervisor.py), before its last lines."""
_OUT_OF_MEMORY = "killed due to the node running low on memory"
"""What Ray says of processes that its own watch over a node's memory has killed, before the kernel would (raylet)."""
_SIGNALLED = 128
_LONGEST = 400


@dataclass(frozen=True)
class Lost:
    """What has become of the pods of a RayJob that KubeRay has not ended."""

    loss: Loss | None
    """Why its gang cannot go on; None: nothing is known against it."""
    wake: float | None = None
    """Seconds until more can be told."""


def wanted(owner: Object) -> bool:
    """Tell whether the attempts of an object of ours are RayJobs."""
    return bool((owner["spec"].get("ray") or {}).get("kuberay"))


def is_ray_job(job: Object) -> bool:
    """Tell whether what `as_job` or the API server returned is a RayJob."""
    return job.get("kind") == KIND


def as_job(found: Object) -> Object:
    """Return a RayJob with what a Job tells: its size, its template, when it started, how it ended; a Job as it is.

    KubeRay does not say since when one is suspended. What it says itself is kept below `rayJob`.
    """
    if not is_ray_job(found):
        return found
    spec, status = found["spec"], found.get("status") or {}
    cluster = spec.get("rayClusterSpec") or {}
    size = 1 + sum(int(group.get("replicas") or 0) for group in cluster.get("workerGroupSpecs") or ())
    suspended = bool(spec.get("suspend"))
    state = status.get("jobDeploymentStatus")
    told: Object = {"conditions": _conditions(status)}
    if state in _STARTED and status.get("startTime") and (not suspended or state in _OVER):
        told["startTime"] = status["startTime"]
    return {
        **found,
        "spec": {
            "suspend": suspended,
            "completions": size,
            "parallelism": size,
            "activeDeadlineSeconds": spec.get("activeDeadlineSeconds"),
            "template": (cluster.get("headGroupSpec") or {}).get("template") or {},
        },
        "status": told,
        "rayJob": status,
    }


def lost(job: Object, pods: Collection[Object], now: datetime) -> Lost:
    """Return why a gang that KubeRay would keep alive, one pod at a time, is lost; `job` as `as_job` returns it.

    A container that began again, a pod that is being deleted or has failed; and, as the driver is not started before
    all pods are ready, one that is missing or has yet to begin while it runs.
    """
    status = job["rayJob"]
    mine = [pod for pod in pods if _cluster_of(pod) == status.get("rayClusterName")]
    ended = ended_pods(mine)
    if any(podstatus.failed(pod) for pod in ended):
        return Lost(classify(ended))
    driven = (status.get("rayJobInfo") or {}).get("startTime")
    there, size = [pod for pod in mine if podstatus.running(pod)], int(job["spec"]["completions"])
    if status.get("jobDeploymentStatus") != "Running" or not driven or len(there) >= size:
        return Lost(None)
    # Pods are watched apart from RayJobs.
    left = SETTLE - seconds_between(driven, now)
    return Lost(None, left) if left > 0 else Lost(classify(there, size))


def loss(job: Object, pods: Collection[Object]) -> Loss:
    """Return why a RayJob that has ended badly did; `job` as `as_job` returns it.

    The driver's end is read as that of the head's container: it is in the place of the one that a Job would have.
    """
    status, name = job["rayJob"], job["metadata"]["name"]
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    if status.get("jobDeploymentStatus") == "ValidationFailed":
        what = f"KubeRay refuses RayJob {name}: {_short(message)}"
        return Loss(Cause.RAY_JOB_REFUSED, what, FailureClass.APPLICATION_ERROR, retryable=False)
    # KubeRay takes the pods away when the driver has ended: only who was driven out left before.
    ended = [pod for pod in ended_pods(pods) if not _is_leaving(pod) or podstatus.is_disrupted(pod)]
    if (found := _ENTRYPOINT.match(message)) is not None:
        driver = _driver(pods, job, int(found[1]), message[found.end() :])
        return classify([*(pod for pod in ended if not _is_head(pod)), driver])
    if any(podstatus.failed(pod) for pod in ended):
        return classify(ended)
    if _OUT_OF_MEMORY in message:
        # It was the one that starts the driver, and no pod has ended.
        what = f"RayJob {name} ran out of memory: {MORE_MEMORY}"
        return Loss(Cause.OUT_OF_MEMORY, what, FailureClass.OUT_OF_MEMORY, output=message)
    if status.get("jobStatus") == "STOPPED":
        return Loss(Cause.RAY_JOB_STOPPED, f"the Ray job of RayJob {name} was stopped by somebody")
    if reason == "DeadlineExceeded":
        # So the operator ends an attempt, and has said why; that says more.
        return Loss(Cause.JOB_DELETED, f"RayJob {name} was ended: {_short(message) or reason}")
    return Loss(Cause.RAY_JOB_FAILED, f"RayJob {name} failed ({reason or 'no reason given'}): {_short(message)}")


def ended_pods(pods: Iterable[Object]) -> list[Object]:
    """Return pods of a gang, those as failed that must not be counted on any more.

    Of a container that began again, the end before is what counts.
    """
    return [_ended(pod) for pod in pods]


def _ended(pod: Object) -> Object:
    if podstatus.failed(pod):
        return pod
    status = podstatus.status(pod)
    statuses = [_before(entry) for entry in podstatus.containers(pod)]
    again = statuses != list(podstatus.containers(pod))
    if not again and not _is_leaving(pod):
        return pod
    return {**pod, "status": {**status, "phase": "Failed", "containerStatuses": statuses}}


def _before(container: Object) -> Object:
    """Return the status of the worker's container with its end before it began again, if it did."""
    last = (container.get("lastState") or {}).get("terminated")
    if container.get("name") != WORKER or not last or (container.get("state") or {}).get("terminated"):
        return container
    return {**container, "state": {"terminated": last}}


def _driver(pods: Iterable[Object], job: Object, code: int, text: str) -> Object:
    """Return the head's pod as one whose container ended as the driver did."""
    nobody = {"metadata": {"name": f"{job['metadata']['name']}-head", "labels": {RAY_TYPE_LABEL: "head"}}, "spec": {}}
    head = next((pod for pod in pods if _is_head(pod)), nobody)
    meta = {field: value for field, value in head["metadata"].items() if field != "deletionTimestamp"}
    # A `Failure`, where there is one, is the last line.
    last = text.rstrip().rpartition("\n")[2]
    ended = {"exitCode": code if code >= 0 else _SIGNALLED - code, "message": last if last.startswith("{") else text}
    if end := (job["rayJob"].get("rayJobInfo") or {}).get("endTime"):
        ended["finishedAt"] = end
    containers = [{"name": WORKER, "state": {"terminated": ended}}]
    return {**head, "metadata": meta, "status": {"phase": "Failed", "containerStatuses": containers}}


def _conditions(status: Object) -> list[Object]:
    if status.get("jobDeploymentStatus") not in _OVER:
        return []
    well = status["jobDeploymentStatus"] == "Complete" and status.get("jobStatus") == "SUCCEEDED"
    at = {"lastTransitionTime": status["endTime"]} if status.get("endTime") else {}
    return [{"type": "Complete" if well else "Failed", "status": "True", **at}]


def _is_leaving(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _is_head(pod: Object) -> bool:
    return (pod["metadata"].get("labels") or {}).get(RAY_TYPE_LABEL) == "head"


def _cluster_of(pod: Object) -> str | None:
    found = (pod["metadata"].get("labels") or {}).get(RAY_CLUSTER_LABEL)
    return str(found) if found else None


def _short(message: str) -> str:
    return " ".join(message.split())[:_LONGEST]
