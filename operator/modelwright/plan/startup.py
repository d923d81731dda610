"""What keeps a gang from starting: pods that find no node, or have one and do not begin."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from modelwright.api.failurepolicy import FailureClass
from modelwright.plan import output, podstatus
from modelwright.plan.actions import Object
from modelwright.plan.conditions import Reason
from modelwright.plan.failures import Cause, Loss
from modelwright.plan.podgroup import awaits_peers
from modelwright.plan.times import seconds_between

_IMAGE_WAITS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CONFIG_WAITS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True)
class Trouble:
    """Why pods that should run do not, though nothing has failed."""

    reason: Reason
    message: str


def trouble(pods: Collection[Object], together: int = 1) -> Trouble | None:
    """Return what keeps the first of the pods that wait from starting, if it is something that people must see.

    So many of them must find nodes at the same time.
    """
    some = any(podstatus.node(pod) for pod in pods)
    # Those that only wait for their peers say last what they have to say, and not before these have said why.
    silent = any(not podstatus.node(pod) and not podstatus.condition(pod, "PodScheduled") for pod in pods)
    heard = [pod for pod in pods if not (silent and awaits_peers(pod))]
    for pod in sorted(heard, key=lambda pod: (awaits_peers(pod), podstatus.name(pod))):
        if (found := _waiting(pod) or _unscheduled(pod, 1 if some else together)) is not None:
            return found
    return None


def timeout(
    pods: Collection[Object], limit: float, now: datetime, known: Collection[Object] = ()
) -> tuple[Loss | None, float | None]:
    """Return the loss of a gang of which a pod had a node for too long without starting.

    Otherwise, the seconds until the next pod would be late; None where all run or wait for a node. `limit` is in
    seconds; `known` are the pods of all attempts.
    """
    left: list[float] = []
    for pod in sorted(pods, key=podstatus.name):
        if pod["metadata"].get("deletionTimestamp"):
            continue
        scheduled = podstatus.condition(pod, "PodScheduled")
        since = scheduled.get("lastTransitionTime")
        if podstatus.status(pod).get("phase") != "Pending" or scheduled.get("status") != "True" or not since:
            continue
        wait = limit - seconds_between(str(since), now)
        if wait <= 0:
            return _late(pod, limit, known), None
        left.append(wait)
    return None, min(left, default=None)


def _late(pod: Object, limit: float, known: Collection[Object]) -> Loss:
    found, kind = _waiting(pod), FailureClass.STARTUP_TIMEOUT
    why = found.message if found else "see its events"
    image = _missing_image(pod)
    if image is not None and any(_has_run(other, image) for other in known):
        kind = FailureClass.INFRASTRUCTURE
        why = f"{image} cannot be pulled there, and was elsewhere: look at the node's way to the registry"
    message = f"{podstatus.who(pod)} did not start within {limit:g} s on its node: {why}"
    return Loss(Cause.START_TIMEOUT, message, kind, node=podstatus.node(pod))


def _missing_image(pod: Object) -> str | None:
    """Return the image that a pod waits for in vain; None where it waits for something else."""
    return next((image or None for image, why, _ in _waits(pod) if why in _IMAGE_WAITS), None)


def _has_run(pod: Object, image: str) -> bool:
    """Tell whether a container of a pod has begun with an image."""
    states = [entry.get("state") or {} for entry in _containers(pod) if entry.get("image") == image]
    return any({"running", "terminated"} & state.keys() for state in states)


def _waiting(pod: Object) -> Trouble | None:
    for image, why, detail in _waits(pod):
        if why in _IMAGE_WAITS:
            what = image or "the image"
            return Trouble(Reason.IMAGE_PULL_FAILED, f"{what} cannot be pulled: check its name and imagePullSecrets")
        if why in _CONFIG_WAITS:
            message = f"pod {podstatus.name(pod)} cannot start: {detail or why}"
            return Trouble(Reason.CONTAINER_CONFIG_INVALID, message)
    return None


def _waits(pod: Object) -> Iterator[tuple[str, str, str]]:
    """Yield the image of each container, and what it waits for: a reason, empty where it does not, and a message."""
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        yield str(container.get("image") or ""), str(waiting.get("reason") or ""), str(waiting.get("message") or "")


def _containers(pod: Object) -> tuple[Object, ...]:
    return (*podstatus.init_containers(pod), *podstatus.containers(pod))


def _unscheduled(pod: Object, together: int) -> Trouble | None:
    found = podstatus.condition(pod, "PodScheduled")
    if found.get("reason") != "Unschedulable":
        return None
    detail = output.read(str(found.get("message") or ""), None).last_line
    what = "pods find no node" if together < 2 else f"{together} pods must find nodes together, and do not"
    return Trouble(Reason.UNSCHEDULABLE, f"{what}: {detail or 'no node has what they ask for'}")
