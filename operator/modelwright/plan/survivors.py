"""Attempts that may live on unseen.

A node may be cut off from the API server, but not from S3. Its pods are deleted by force, for nobody can confirm their
end, and train on beside the next attempt. That one is told, and shares no version number with them.
"""

from collections.abc import Iterable

from modelwright.api.trainingjob import TrainingJobStatus
from modelwright.plan.actions import Action, Delete
from modelwright.plan.failures import Cause


def newest(status: TrainingJobStatus) -> int:
    """Return the newest attempt of which a pod may still run; 0 where there is none."""
    # Kubernetes, too, lets go of pods by force when their node is gone, and statuses of old tell of no others.
    lost = (entry.number for entry in status.attempts if entry.reason == Cause.NODE_LOST)
    return max((status.unconfirmed_attempt or 0, *lost))


def are_left_by(actions: Iterable[Action]) -> bool:
    """Tell whether actions delete a pod by force."""
    return any(isinstance(action, Delete) and action.grace_seconds == 0 for action in actions)
