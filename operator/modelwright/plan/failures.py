"""Why a gang was lost, and what keeps one from starting: read from its pods and its Job, said in one sentence."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from modelwright.api.run import PEER_LOST, TERMINATED, Failure
from modelwright.plan.actions import Object
from modelwright.plan.conditions import Reason

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
_LINE = 300
_KILLED = 137
_NAMED = 5


class Cause(StrEnum):
    """What ended an attempt."""

    COMPLETED = "Completed"
    WORKER_FAILED = "WorkerFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    POD_DELETED = "PodDeleted"
    JOB_DELETED = "JobDeleted"
    DEADLINE_EXCEEDED = "DeadlineExceeded"


@dataclass(frozen=True)
class Loss:
    """Why an attempt ended badly."""

    reason: str
    """A `Cause`, or the reason that the pod itself gave."""
    message: str
    """`pod a-1-0-x7k2p (worker 0) ran out of memory: ...`"""
    retryable: bool = True


@dataclass(frozen=True)
class Trouble:
    """Why pods that should run do not, though nothing has failed."""

    reason: Reason
    message: str


_DISRUPTIONS = {
    "PreemptionByScheduler": (Cause.PREEMPTED, "was preempted by a pod of higher priority"),
    "DeletionByTaintManager": (Cause.NODE_LOST, "lost its node"),
    "DeletionByPodGC": (Cause.NODE_LOST, "lost its node"),
    "EvictionByEvictionAPI": (Cause.EVICTED, "was evicted"),
    "TerminationByKubelet": (Cause.EVICTED, "was stopped by its node"),
}
_ECHOES = {TERMINATED: 5, PEER_LOST: 6}
"""The ranks of losses that may speak of another one."""
_IMAGE_WAITS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CONFIG_WAITS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def failed(pod: Object) -> bool:
    """Tell whether a pod has ended badly."""
    return bool(_status(pod).get("phase") == "Failed")


def alive(pod: Object) -> bool:
    """Tell whether a process of the pod may still run."""
    return _status(pod).get("phase") not in ("Failed", "Succeeded")


def running(pod: Object) -> bool:
    """Tell whether the pod's container runs, or has ended well."""
    return _status(pod).get("phase") in ("Running", "Succeeded")


def classify(pods: Collection[Object], replicas: int = 0) -> Loss:
    """Return the likeliest root of the loss of a gang of so many pods.

    When one pod goes, its peers fail for want of it. So what cannot come from a peer is believed first (an error in
    data or configuration, a disruption, the memory limit), and among equals what happened first. Where nothing is known
    but that the gang was asked to stop, and a pod is missing, that one was deleted.
    """
    losses = sorted(
        ((rank, _finished_at(pod), _name(pod), loss) for pod in pods if failed(pod) for rank, loss in (_loss(pod),)),
        key=lambda entry: entry[:3],
    )
    missing = sorted({str(index) for index in range(replicas)} - {_index(pod) for pod in pods}, key=int)
    # With a broken connection it is not sure: what is left of a failed Job is deleted by its controller.
    if losses and not (losses[0][3].reason == TERMINATED and missing):
        return losses[0][3]
    whose = f"the pod of worker {', '.join(missing[:_NAMED])}" if missing else "a pod"
    return Loss(Cause.POD_DELETED, f"{whose} was deleted before it ended")


def trouble(pods: Iterable[Object]) -> Trouble | None:
    """Return what keeps the first of the pods that wait from starting, if it is something that people must see."""
    for pod in sorted(pods, key=_name):
        if (found := _waiting(pod) or _unscheduled(pod)) is not None:
            return found
    return None


def _loss(pod: Object) -> tuple[int, Loss]:
    who = f"pod {_name(pod)} (worker {_index(pod)})"
    ended = _terminated(pod)
    said = _said(ended)
    if said is not None and not said.retryable:
        return 0, Loss(said.reason, f"{who}: {said.message}", retryable=False)
    if (disruption := _disruption(pod)) is not None:
        cause, verb = disruption
        return 1, Loss(cause, f"{who} {verb}")
    if ended.get("reason") == "OOMKilled":
        hint = "raise workers.resources.limits.memory, or lower the batch size"
        return 2, Loss(Cause.OUT_OF_MEMORY, f"{who} ran out of memory: {hint}")
    if said is not None:
        return _ECHOES.get(said.reason, 3), Loss(said.reason, f"{who}: {said.message}")
    code = ended.get("exitCode")
    how = "was killed" if code == _KILLED else f"exited with code {code}" if code is not None else "failed"
    last = _last_line(str(ended.get("message") or _status(pod).get("message") or ""))
    return 4, Loss(Cause.WORKER_FAILED, f"{who} {how}{': ' + last if last else ''}")


def _disruption(pod: Object) -> tuple[Cause, str] | None:
    for condition in _status(pod).get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return _DISRUPTIONS.get(str(condition.get("reason")), (Cause.EVICTED, "was evicted"))
    match _status(pod).get("reason"):
        case "Evicted" | "Terminated" | "NodeShutdown":
            return Cause.EVICTED, "was evicted by its node"
        case "Preempting" | "Preempted":
            return Cause.PREEMPTED, "was preempted by a pod of higher priority"
        case "NodeLost":
            return Cause.NODE_LOST, "lost its node"
    return None


def _said(ended: Object) -> Failure | None:
    try:
        return Failure.model_validate_json(ended.get("message") or "")
    except ValidationError:
        return None


def _waiting(pod: Object) -> Trouble | None:
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        why, detail = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if why in _IMAGE_WAITS:
            image = container.get("image") or "the image"
            return Trouble(Reason.IMAGE_PULL_FAILED, f"{image} cannot be pulled: check its name and imagePullSecrets")
        if why in _CONFIG_WAITS:
            return Trouble(Reason.CONTAINER_CONFIG_INVALID, f"pod {_name(pod)} cannot start: {detail or why}")
    return None


def _unscheduled(pod: Object) -> Trouble | None:
    for condition in _status(pod).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            detail = _last_line(str(condition.get("message") or ""))
            return Trouble(Reason.UNSCHEDULABLE, f"pods find no node: {detail or 'no node has what they ask for'}")
    return None


def _terminated(pod: Object) -> Object:
    for container in _containers(pod):
        ended: Object = (container.get("state") or {}).get("terminated") or {}
        if ended:
            return ended
    return {}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LINE] if lines else ""


def _finished_at(pod: Object) -> str:
    return str(_terminated(pod).get("finishedAt") or "~")


def _index(pod: Object) -> str:
    meta = pod["metadata"]
    return str({**(meta.get("annotations") or {}), **(meta.get("labels") or {})}.get(INDEX_ANNOTATION, "?"))


def _status(pod: Object) -> dict[str, Any]:
    return pod.get("status") or {}


def _containers(pod: Object) -> Iterable[Object]:
    return _status(pod).get("containerStatuses") or ()


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])
