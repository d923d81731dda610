"""Containers that a webhook puts beside `worker`, such as a mesh's proxy: they do not end, and so neither does the pod.

The gang's own side-cars are init containers, which the kubelet stops after the worker. Under KubeRay what counts is
that the worker began again.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from modelwright.api.podtemplate import WORKER
from modelwright.plan import podstatus
from modelwright.plan.actions import Object
from modelwright.plan.conditions import Reason, State, Verdict
from modelwright.plan.failures import Loss, classify
from modelwright.plan.pods import GRACE
from modelwright.plan.times import seconds_between

PATIENCE = 60.0
"""Seconds beside the grace period that such a container has to notice that it is alone."""


@dataclass(frozen=True)
class Kept:
    """What has become of a gang with pods that are kept from ending."""

    loss: Loss | None = None
    """Why it is lost."""
    verdict: Verdict | None = None
    """What keeps it from its success."""
    wake: float | None = None
    """Seconds until more can be told."""


def look(job: Object, pods: Collection[Object], now: datetime) -> Kept:
    """Return what has become of the gang of a live Job."""
    waits = [(_left(pod, now), pod) for pod in pods if keeper(pod) is not None]
    late = [pod for left, pod in waits if left <= 0]
    wake = min((left for left, _ in waits if left > 0), default=None)
    if not late:
        return Kept(wake=wake)
    if all(_worker(pod).get("exitCode") == 0 for pod in _deciding(job, pods)):
        return Kept(verdict=_kept(late[0]), wake=wake)
    if all(_worker(pod).get("exitCode") == 0 for pod in late):
        # Its peers are still at it.
        return Kept(wake=wake)
    return Kept(loss=classify([_as_ended(pod) for pod in pods], int(job["spec"]["completions"])))


def keeper(pod: Object) -> str | None:
    """Return the container that keeps a pod from ending, which nobody asks to leave; None where none does."""
    leaves = pod["metadata"].get("deletionTimestamp") or (pod.get("spec") or {}).get("restartPolicy") != "Never"
    if leaves or not _worker(pod).get("finishedAt"):
        return None
    beside = (entry for entry in podstatus.containers(pod) if entry["name"] != WORKER)
    return next((str(entry["name"]) for entry in beside if not podstatus.end(entry)), None)


def _deciding(job: Object, pods: Collection[Object]) -> list[Object]:
    """Return the pods whose good end is that of their Job."""
    first = "successPolicy" in job["spec"]
    return [pod for pod in pods if not first or podstatus.index(pod) == "0"]


def _left(pod: Object, now: datetime) -> float:
    grace = pod["spec"].get("terminationGracePeriodSeconds", GRACE)
    return float(grace) + PATIENCE - seconds_between(str(_worker(pod)["finishedAt"]), now)


def _worker(pod: Object) -> Object:
    """Return how the worker of a pod ended; empty before that."""
    return next((podstatus.end(entry) for entry in podstatus.containers(pod) if entry["name"] == WORKER), {})


def _as_ended(pod: Object) -> Object:
    """Return a pod as one that has ended with its worker."""
    if keeper(pod) is None or _worker(pod).get("exitCode") == 0:
        return pod
    worker = {"name": WORKER, "state": {"terminated": _worker(pod)}}
    return {**pod, "status": {**podstatus.status(pod), "phase": "Failed", "containerStatuses": [worker]}}


def _kept(pod: Object) -> Verdict:
    message = (
        f"container {keeper(pod)} keeps {podstatus.who(pod)} from ending, whose program has ended well: stop it there, "
        "and have it injected as a native side-car, or not at all, another time (docs/pods.md)"
    )
    return Verdict(State.RECONCILING, Reason.SIDECAR_RUNNING, message)
