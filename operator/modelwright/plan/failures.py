"""Why a gang was lost: read from its pods and its Job, classed, and said in one sentence."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from pydantic import ValidationError

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.run import HANG, PEER_LOST, TERMINATED, Failure
from modelwright.plan import output, podstatus
from modelwright.plan.actions import Object
from modelwright.plan.podstatus import failed, who
from modelwright.plan.times import parse, stamp

_KILLED = 137
_NAMED = 5


class Cause(StrEnum):
    """What ended an attempt."""

    COMPLETED = "Completed"
    WORKER_FAILED = "WorkerFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_SHUTDOWN = "NodeShutdown"
    NODE_LOST = "NodeLost"
    NODE_REFUSED = "NodeRefused"
    POD_DELETED = "PodDeleted"
    JOB_DELETED = "JobDeleted"
    RAY_JOB_FAILED = "RayJobFailed"
    RAY_JOB_STOPPED = "RayJobStopped"
    RAY_JOB_REFUSED = "RayJobRefused"
    START_TIMEOUT = "StartTimeout"
    NODES_EXCLUDED = "NodesExcluded"
    HANG = HANG
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    SHRUNK = "Shrunk"
    GROWN = "Grown"


RESIZED = frozenset({Cause.SHRUNK, Cause.GROWN})
"""The operator ended the attempt, so that the next one has another number of workers: no failure, and nobody pays."""


@dataclass(frozen=True)
class Loss:
    """Why an attempt ended badly."""

    reason: str
    """A `Cause`, or the reason that the pod itself gave."""
    message: str
    """`pod a-1-0-x7k2p (worker 0) ran out of memory: ...`"""
    failure_class: FailureClass = FailureClass.INFRASTRUCTURE
    retryable: bool = True
    step: int | None = None
    """The step at which the program broke, where it said so."""
    node: str | None = None
    exit_code: int | None = None
    output: str = ""
    """Everything that rules may look for a text in."""


_CLASSES: Mapping[Cause, FailureClass] = {
    Cause.WORKER_FAILED: FailureClass.APPLICATION_ERROR,
    Cause.OUT_OF_MEMORY: FailureClass.OUT_OF_MEMORY,
    Cause.PREEMPTED: FailureClass.PREEMPTION,
    # A node that is shut down in good order was taken back: spot capacity, an upgrade, a drain by its cloud.
    Cause.NODE_SHUTDOWN: FailureClass.PREEMPTION,
    Cause.START_TIMEOUT: FailureClass.STARTUP_TIMEOUT,
    Cause.HANG: FailureClass.HANG,
}
"""What is not here is infrastructure."""
_DISRUPTIONS = {
    "PreemptionByScheduler": (Cause.PREEMPTED, "was preempted by a pod of higher priority"),
    "DeletionByTaintManager": (Cause.NODE_LOST, "lost its node"),
    "DeletionByPodGC": (Cause.NODE_LOST, "lost its node"),
    "EvictionByEvictionAPI": (Cause.EVICTED, "was evicted"),
    "TerminationByKubelet": (Cause.EVICTED, "was stopped by its node"),
}
MORE_MEMORY = "raise workers.resources.limits.memory, or lower the batch size"
"""What to do about a pod that ran out of memory."""
_UNKNOWN_ENDS = frozenset({"ContainerStatusUnknown", "Unknown"})
"""What the kubelet and containerd say of a container that was not there any more when they looked."""
_ECHOES = {TERMINATED: 5, PEER_LOST: 6}
"""The ranks of losses that may speak of another one."""


_OUTSIDE = (
    Cause.EVICTED,
    Cause.PREEMPTED,
    Cause.NODE_SHUTDOWN,
    Cause.NODE_LOST,
    Cause.NODE_REFUSED,
    Cause.START_TIMEOUT,
    Cause.NODES_EXCLUDED,
)
_RANKS: Mapping[str, int] = {
    # What pods that were asked to leave do after that is no root.
    **dict.fromkeys(RESIZED, 0),
    **dict.fromkeys(_OUTSIDE, 1),
    Cause.OUT_OF_MEMORY: 2,
    Cause.WORKER_FAILED: 4,
    **_ECHOES,
    # KubeRay could not say more.
    Cause.RAY_JOB_FAILED: 5,
    # Only known from what is not there; and what is gone may have been deleted for the failure of another one.
    Cause.POD_DELETED: 7,
    Cause.JOB_DELETED: 8,
}
"""How sure a loss is, by its reason; what a pod said itself is not here."""
_RANKS_SAID: Mapping[str, int] = {**_ECHOES, Cause.OUT_OF_MEMORY: _RANKS[Cause.OUT_OF_MEMORY]}
"""The same, where the pod said the reason itself; what is not here is 3."""


def classify(pods: Collection[Object], replicas: int = 0) -> Loss:
    """Return the likeliest root of the loss of a gang of so many pods.

    When one pod goes, its peers fail for want of it. So what cannot come from a peer is believed first (an error in
    data or configuration, a disruption, the memory limit), and among equals what happened first. Where nothing is known
    but that the gang was asked to stop, and a pod is missing, that one was deleted.
    """
    losses = sorted(
        (
            (rank, _gone_at(pod), _is_leaving(pod), podstatus.name(pod), loss)
            for pod in pods
            if failed(pod)
            for rank, loss in (_loss(pod),)
        ),
        key=lambda entry: entry[:4],
    )
    missing = sorted({str(number) for number in range(replicas)} - {podstatus.index(pod) for pod in pods}, key=int)
    # With a broken connection it is not sure: what is left of a failed Job is deleted by its controller.
    if losses and losses[0][4].reason != TERMINATED:
        return losses[0][4]
    if losses and not missing:
        return _deletion(pods) or losses[0][4]
    whose = f"the pod of worker {', '.join(missing[:_NAMED])}" if missing else "a pod"
    return Loss(Cause.POD_DELETED, f"{whose} was deleted before it ended")


def _deletion(pods: Iterable[Object]) -> Loss | None:
    """Return the loss of the pod by whose delete a gang began to leave; None where one had ended before any delete.

    The others are deleted too, by their Job, once one has failed. Times tell no more than seconds.
    """
    ends = [end for pod in pods if (end := podstatus.ended_at(pod)) is not None]
    leaving = [(_asked_at(pod), podstatus.alive(pod), podstatus.name(pod), pod) for pod in pods if _is_leaving(pod)]
    asked, _, _, pod = min(leaving, key=lambda entry: entry[:3], default=("~", True, "", {}))
    said = _said(pod) if pod else None
    if said is None or said.reason != TERMINATED or asked > min(ends, default=""):
        return None
    return replace(_seen(pod, Cause.POD_DELETED, f"was deleted before it ended. {said.message}"), step=said.step)


def likelier(first: Loss, second: Loss) -> Loss:
    """Return which of two losses of one attempt is the likelier root; the first where there is no telling."""
    # Of a gang that was asked to stop, a pod that is missing is the root: it may be seen once more before it goes.
    missed = (first.reason, second.reason) == (TERMINATED, Cause.POD_DELETED)
    return second if missed or _rank(second) < _rank(first) else first


def _rank(loss: Loss) -> int:
    """Return how sure a loss is, as `_loss` does, from what a status keeps of it."""
    if not loss.retryable:
        return 0
    return _RANKS.get(loss.reason, 3)


def _loss(pod: Object) -> tuple[int, Loss]:
    """Return why a pod failed, and how sure it is that this was the root of it all: the lower, the surer."""
    ended, said = podstatus.terminated(pod), _said(pod)
    if said is not None and not said.retryable:
        return 0, _told(pod, said)
    if (disruption := _disruption(pod)) is not None:
        cause, verb = disruption
        if said is not None and said.reason == TERMINATED:
            # Whether it saved in time is what its user wants to know.
            return 1, replace(_seen(pod, cause, f"{verb}. {said.message}"), step=said.step)
        return 1, _seen(pod, cause, verb)
    if ended.get("reason") == "OOMKilled":
        return 2, _seen(pod, Cause.OUT_OF_MEMORY, f"ran out of memory: {MORE_MEMORY}")
    if said is not None:
        return _RANKS_SAID.get(said.reason, 3), _told(pod, said)
    return _last_words(pod)


def _last_words(pod: Object) -> tuple[int, Loss]:
    """Return the same of a pod of which nobody says why it failed: its output may show it, or its end."""
    found = _ending(pod)
    if found.out_of_memory:
        return 2, _seen(pod, Cause.OUT_OF_MEMORY, f"ran out of memory: {found.out_of_memory}")
    if found.stood_still:
        return 3, _seen(pod, Cause.HANG, "stood still: its log ends with the stacks of its threads")
    if _is_leaving(pod):
        return 4, _seen(pod, Cause.POD_DELETED, "was deleted before it ended")
    how = "failed" if found.exit_code is None else f"exited with code {found.exit_code}"
    if found.exit_code == _KILLED:
        how = "was killed"
    if (broken := podstatus.broken_init(pod)) is not None:
        how = f"did not begin: its init container {broken.get('name')} {how}"
    return 4, _seen(pod, Cause.WORKER_FAILED, f"{how}{': ' + found.last_line if found.last_line else ''}")


def _seen(pod: Object, cause: Cause, verb: str) -> Loss:
    return Loss(
        cause,
        f"{who(pod)} {verb}",
        _CLASSES.get(cause, FailureClass.INFRASTRUCTURE),
        node=podstatus.node(pod),
        exit_code=_ending(pod).exit_code,
        output=_output(pod),
    )


def _told(pod: Object, said: Failure) -> Loss:
    default = FailureClass.APPLICATION_ERROR if said.retryable else FailureClass.DATA_ERROR
    if said.reason in _ECHOES:
        # An older image of ours gives no class.
        default = FailureClass.INFRASTRUCTURE
    elif said.retryable and output.out_of_memory(said.message):
        # Of a program that tells its own error in its own words.
        default = FailureClass.OUT_OF_MEMORY
    return Loss(
        # What only the operator can say, and nobody pays for, is not for a program to say.
        Cause.WORKER_FAILED if said.reason in RESIZED else said.reason,
        f"{who(pod)}: {said.message}",
        said.failure_class or default,
        retryable=said.retryable,
        step=said.step,
        node=podstatus.node(pod) if said.node is None else said.node or None,
        exit_code=_ending(pod).exit_code,
        output=_output(pod),
    )


def _ending(pod: Object) -> output.Output:
    ended = podstatus.terminated(pod)
    text = ended.get("message") or podstatus.status(pod).get("message") or ""
    return output.read(str(text), ended.get("exitCode"))


def _output(pod: Object) -> str:
    status, ended = podstatus.status(pod), podstatus.terminated(pod)
    parts = (ended.get("reason"), ended.get("message"), status.get("reason"), status.get("message"))
    return "\n".join(str(part) for part in parts if part)


def _disruption(pod: Object) -> tuple[Cause, str] | None:
    match podstatus.status(pod).get("reason"):
        case "Terminated" | "NodeShutdown":
            return Cause.NODE_SHUTDOWN, "had to leave: its node was shut down"
        case "Preempting" | "Preempted":
            return Cause.PREEMPTED, "was preempted by a pod of higher priority"
        case "NodeLost":
            return Cause.NODE_LOST, "lost its node"
        case "Evicted":
            return Cause.EVICTED, "was evicted by its node"
    if podstatus.is_disrupted(pod):
        why = str(podstatus.condition(pod, podstatus.DISRUPTED).get("reason"))
        return _DISRUPTIONS.get(why, (Cause.EVICTED, "was evicted"))
    if podstatus.terminated(pod).get("reason") in _UNKNOWN_ENDS:
        return Cause.NODE_LOST, "ended unseen: its node lost track of it, as after a restart"
    if podstatus.status(pod).get("reason") and not podstatus.containers(pod):
        # UnexpectedAdmissionError, OutOfcpu, NodeAffinity, ...: no container was ever made.
        return Cause.NODE_REFUSED, f"was refused by its node: {_ending(pod).last_line}"
    return None


def _said(pod: Object) -> Failure | None:
    try:
        return Failure.model_validate_json(podstatus.terminated(pod).get("message") or "")
    except ValidationError:
        return None


def _is_leaving(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _gone_at(pod: Object) -> str:
    """Return when a pod ended, or was asked to: its peers miss it from then on."""
    ended = str(podstatus.terminated(pod).get("finishedAt") or "~")
    return min(ended, _asked_at(pod)) if _is_leaving(pod) else ended


def _asked_at(pod: Object) -> str:
    """Return when a pod was deleted."""
    meta = pod["metadata"]
    grace = timedelta(seconds=int(meta.get("deletionGracePeriodSeconds") or 0))
    return stamp(parse(meta["deletionTimestamp"]) - grace)
