"""Pods that are to leave, and how those go that would not, or not soon. For training and tuning."""

from collections.abc import Collection, Iterable
from datetime import datetime

from modelwright.plan import unanswered
from modelwright.plan.actions import Delete, Object
from modelwright.plan.attempts import View, attempt_of, ref
from modelwright.plan.podstatus import alive, leaves_unbegun
from modelwright.plan.times import parse, sooner

HURRY = 10
"""Seconds for the rest of a gang that stood still to leave."""
AT_ONCE = 1
"""The same, for what has nothing to save. 0 would not wait for the node."""
STUCK = 60.0
"""Seconds past the end of its grace period after which a pod is taken for one whose node no longer answers."""
_TRACKED = "batch.kubernetes.io/job-tracking"
"""The finalizer of a pod that its Job has not let go of. A suspension lets go."""


def hastened(view: View, but: Collection[Object] = ()) -> tuple[Delete, ...]:
    """Return deletes of what is left of a gang that stood still: it has nothing to save, and may not hear that."""
    return _within(HURRY, (pod for pod in view.attempt_pods if alive(pod) and pod not in but))


def unbegun(view: View) -> tuple[Delete, ...]:
    """Return deletes of pods of KubeRay's that leave before they have begun, as one that was made for a lost one.

    They have nothing to save, and the init container that KubeRay gives them ends by no signal: it is the first process
    of its container, and takes none. It would be waited for until the grace period of the training is over.
    """
    return _within(AT_ONCE, (pod for pod in view.pods if alive(pod) and leaves_unbegun(pod)))


def strays(view: View) -> tuple[Delete, ...]:
    """Return the deletes of pods whose Job was deleted without them: they belong to nobody, and would stay."""
    orphans = [pod for pod in view.pods if alive(pod) and attempt_of(pod) not in view.jobs]
    return tuple(Delete(ref(pod, "v1", "Pod")) for pod in orphans if not pod["metadata"].get("deletionTimestamp"))


def overdue(view: View, now: datetime) -> tuple[tuple[Object, ...], float | None]:
    """Return the pods whose node cannot confirm their end, and the seconds until the next one is such a pod."""
    found: list[Object] = []
    wake: float | None = None
    for pod in view.pods:
        meta = pod["metadata"]
        if not meta.get("deletionTimestamp") or meta.get("deletionGracePeriodSeconds") == 0 or not alive(pod):
            continue
        # Of a node that does not answer, Kubernetes has waited for longer already.
        patience = 0.0 if unanswered.is_on_one(pod) else STUCK
        left = (parse(meta["deletionTimestamp"]) - now).total_seconds() + patience
        if left > 0:
            wake = sooner(wake, left)
        else:
            found.append(pod)
    return tuple(found), wake


def forced(pods: Iterable[Object]) -> tuple[Delete, ...]:
    """Return the deletes of pods that nobody waits for any more."""
    return tuple(Delete(ref(pod, "v1", "Pod"), grace_seconds=0) for pod in pods)


def is_let_go(pod: Object) -> bool:
    """Tell whether the Job of a pod does not wait for its end any more, so that a forced delete takes it away."""
    return _TRACKED not in (pod["metadata"].get("finalizers") or ())


def _within(seconds: int, pods: Iterable[Object]) -> tuple[Delete, ...]:
    """Return the deletes of those pods that have longer to go, or were not asked to yet."""
    slow = [pod for pod in pods if int(pod["metadata"].get("deletionGracePeriodSeconds", seconds + 1)) > seconds]
    return tuple(Delete(ref(pod, "v1", "Pod"), grace_seconds=seconds) for pod in slow)
