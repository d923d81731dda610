"""Nodes that do not answer: which pods are on them, and when a gang is given up for that.

Kubernetes says that a node does not answer when its kubelet was silent for 50 s, leaves the pods alone for five minutes
more, and then waits for the kubelet to confirm their end. But a kubelet may also be silent while its pods train on: it
is restarted, or out of reach of the API server only. What tells the two apart is whether the gang still makes steps.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from modelwright.plan import podstatus
from modelwright.plan.actions import Object
from modelwright.plan.failures import Cause, Loss
from modelwright.plan.times import seconds_between

PATIENCE = 30.0
"""Seconds without a step after which a gang with a node that does not answer is lost."""
_STEPS = 5.0
"""Where steps take long, the time of so many instead."""
_LONGEST = 2.0
"""Where the longest between two of which it told took even longer, so many times that."""


@dataclass(frozen=True)
class Pulse:
    """The last sign that a gang makes steps."""

    at: str
    """When it was heard of a further step."""
    seconds_per_step: float
    longest_step: float = 0.0
    """Seconds between two that it told of, at most."""


@dataclass(frozen=True)
class Silence:
    """The pods that a gang has lost with their nodes."""

    pods: tuple[Object, ...] = ()
    wake: float | None = None
    """Otherwise, the seconds until that may be so; None where all nodes answer."""


def is_on_one(pod: Object) -> bool:
    """Tell whether a pod runs, as far as is known, on a node that does not answer.

    The node controller takes Ready from such pods and leaves the rest as the kubelet last wrote it. A kubelet itself
    never says that all containers are ready and the pod is not, but for readiness gates, which it names as the reason.
    """
    ready, containers = podstatus.condition(pod, "Ready"), podstatus.condition(pod, "ContainersReady")
    runs = podstatus.status(pod).get("phase") == "Running" and containers.get("status") == "True"
    return runs and ready.get("status") == "False" and not ready.get("reason")


def lost(pods: Iterable[Object], pulse: Pulse | None, now: datetime) -> Silence:
    """Return which pods of a gang are lost with their nodes. Without a pulse nothing can be said: none."""
    staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    silent = tuple(pod for pod in staying if is_on_one(pod))
    if not silent or pulse is None:
        return Silence()
    patience = max(PATIENCE, _STEPS * pulse.seconds_per_step, _LONGEST * pulse.longest_step)
    left = patience - seconds_between(pulse.at, now)
    return Silence(wake=left) if left > 0 else Silence(silent)


def loss(pod: Object) -> Loss:
    """Return what is said of a gang that has lost such a pod."""
    return Loss(Cause.NODE_LOST, f"{podstatus.who(pod)} is lost: its node does not answer", node=podstatus.node(pod))
