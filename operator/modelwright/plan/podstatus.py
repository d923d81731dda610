"""What the status of a pod says, in the words that planners use."""

from collections.abc import Iterable
from typing import Any

from modelwright.plan.actions import Object

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
RAY_TYPE_LABEL, RAY_REPLICA_LABEL = "ray.io/node-type", "ray.io/worker-group-replica-index"
"""On the pods that KubeRay makes: `head` or `worker`, and the number of a worker, from 0."""
RAY_CLUSTER_LABEL = "ray.io/cluster"
_SIGNALLED = 128
DISRUPTED = "DisruptionTarget"
"""The condition of a pod that has to leave; its reason says for whom."""


def failed(pod: Object) -> bool:
    """Tell whether a pod has ended badly."""
    badly = _has_run(pod) and any(end(container).get("exitCode") for container in containers(pod))
    return bool(status(pod).get("phase") == "Failed" or badly)


def alive(pod: Object) -> bool:
    """Tell whether Kubernetes waits for the end of a pod."""
    return status(pod).get("phase") not in ("Failed", "Succeeded")


def over(pod: Object) -> bool:
    """Tell whether no process of a pod runs any more, nor will; a node tells the pod's end up to two seconds later."""
    return not alive(pod) or _has_run(pod)


def may_be_explained(pod: Object) -> bool:
    """Tell whether its node may yet say why a pod has ended, which nobody has deleted: an eviction, a shutdown.

    The kubelet tells that together with the phase, and of containers that it has killed before (mergePodStatus).
    """
    killed = any(int(end.get("exitCode") or 0) >= _SIGNALLED and end.get("reason") != "OOMKilled" for end in _ends(pod))
    return killed and alive(pod) and not pod["metadata"].get("deletionTimestamp")


def _ends(pod: Object) -> Iterable[Object]:
    return map(end, containers(pod))


def _has_run(pod: Object) -> bool:
    """Tell whether all containers of a pod are known to have ended, side-cars among them, and for good."""
    spec = pod.get("spec") or {}
    if spec.get("restartPolicy") != "Never":
        return False
    beside = {entry["name"] for entry in spec.get("initContainers") or () if entry.get("restartPolicy") == "Always"}
    ended = {entry["name"] for entry in (*containers(pod), *init_containers(pod)) if end(entry)}
    return {entry["name"] for entry in spec["containers"]} | beside <= ended


def running(pod: Object) -> bool:
    """Tell whether the pod's container runs, or has ended well."""
    return status(pod).get("phase") in ("Running", "Succeeded")


def leaves_unbegun(pod: Object) -> bool:
    """Tell whether a pod of KubeRay's is asked to leave, and nothing of ours has begun in it."""
    meta = pod["metadata"]
    made_by_kuberay = RAY_CLUSTER_LABEL in (meta.get("labels") or {})
    return bool(made_by_kuberay and meta.get("deletionTimestamp") and status(pod).get("phase") == "Pending")


def terminated(pod: Object) -> Object:
    """Return how the container of a pod ended, rather one that failed than one beside it; empty while none has.

    Where it never began, an init container may have failed. Side-cars are not asked: they end because the pod does.
    """
    ended = [entry for entry in map(end, containers(pod)) if entry]
    if (broken := broken_init(pod)) is not None:
        ended = [end(broken)]
    return next((entry for entry in ended if entry.get("exitCode") != 0), ended[0] if ended else {})


def ended_at(pod: Object) -> str | None:
    """Return when the last container of a pod ended, side-cars aside; None where none has."""
    times = [str(time) for container in containers(pod) if (time := end(container).get("finishedAt"))]
    return max(times, default=None)


def broken_init(pod: Object) -> Object | None:
    """Return the status of the init container that kept the others from beginning; None where none did."""
    if any(end(container) for container in containers(pod)):
        return None
    return next((entry for entry in init_containers(pod) if end(entry).get("exitCode", 0) != 0), None)


def end(container: Object) -> Object:
    """Return how a container ended; empty where it has not."""
    return (container.get("state") or {}).get("terminated") or {}


def condition(pod: Object, kind: str) -> Object:
    """Return a condition of a pod, or of what tells its own alike; empty where it has none of that type."""
    found: Iterable[Object] = status(pod).get("conditions") or ()
    return next((entry for entry in found if entry.get("type") == kind), {})


def is_disrupted(pod: Object) -> bool:
    """Tell whether a pod had to leave for somebody else: a preemption, an eviction, a node that is lost."""
    return bool(condition(pod, DISRUPTED).get("status") == "True")


def containers(pod: Object) -> Iterable[Object]:
    """Return the statuses of a pod's containers, init containers aside."""
    return status(pod).get("containerStatuses") or ()


def init_containers(pod: Object) -> Iterable[Object]:
    """Return the statuses of a pod's init containers, side-cars among them."""
    return status(pod).get("initContainerStatuses") or ()


def status(pod: Object) -> dict[str, Any]:
    """Return the status of a pod; empty before it has one."""
    return pod.get("status") or {}


def name(pod: Object) -> str:
    """Return the name of a pod."""
    return str(pod["metadata"]["name"])


def who(pod: Object) -> str:
    """Return `pod a-1-0-x7k2p (worker 0)`."""
    return f"pod {name(pod)} (worker {index(pod)})"


def node(pod: Object) -> str | None:
    """Return the node of a pod; None before it has one."""
    found = (pod.get("spec") or {}).get("nodeName")
    return str(found) if found else None


def index(pod: Object) -> str:
    """Return the number of a pod in its gang, `?` where nobody says. Under KubeRay the head is 0."""
    meta = pod["metadata"]
    marks = {**(meta.get("annotations") or {}), **(meta.get("labels") or {})}
    if marks.get(RAY_TYPE_LABEL) == "head":
        return "0"
    replica = str(marks.get(RAY_REPLICA_LABEL, ""))
    return str(int(replica) + 1) if replica.isdecimal() else str(marks.get(INDEX_ANNOTATION, "?"))
