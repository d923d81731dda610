"""Events are told from the change of a status, so that what is written twice is said once."""

from collections.abc import Iterable

from modelwright.api.common import Condition
from modelwright.api.trainingjob import Attempt
from modelwright.plan.actions import Event
from modelwright.plan.conditions import Reason

_QUIET = frozenset({Reason.TRAINING, Reason.SEARCHING, Reason.WATCHING, Reason.DRIFTED, Reason.RETRAINING})
"""Ordinary progress, which the status shows anyway, and what has an event of its own."""
_WARNINGS = frozenset(
    {
        Reason.RESTARTING,
        Reason.SHRUNK,
        Reason.UNSCHEDULABLE,
        Reason.IMAGE_PULL_FAILED,
        Reason.CONTAINER_CONFIG_INVALID,
        Reason.SECRET_NOT_FOUND,
        Reason.STORAGE_UNAVAILABLE,
        Reason.STORAGE_NOT_CONFIGURED,
        Reason.API_UNAVAILABLE,
        Reason.WEBHOOK_UNAVAILABLE,
        Reason.CHILD_REJECTED,
        Reason.PODS_REJECTED,
        Reason.MODEL_NOT_FOUND,
        Reason.DEPLOYMENT_NOT_FOUND,
    }
)


def on_change(before: Iterable[Condition], after: Iterable[Condition]) -> tuple[Event, ...]:
    """Return the event of a new reason of Ready, if it is worth one; the event has the same reason.

    An object that was suspended from the start waits as it was told: that is none.
    """
    old, new = _by_type(before), _by_type(after)
    ready = new["Ready"]
    if "Ready" in old and old["Ready"].reason == ready.reason:
        return ()
    if ready.reason in _QUIET or ("Ready" not in old and ready.reason == Reason.SUSPENDED):
        return ()
    bad = "Stalled" in new or ready.reason in _WARNINGS
    return (Event("Warning" if bad else "Normal", ready.reason, ready.message),)


def on_restarts(before: Iterable[Attempt], after: Iterable[Attempt]) -> tuple[Event, ...]:
    """Return an event for every attempt whose processes have started again in their pods since."""
    known = {entry.number: entry.process_restarts or 0 for entry in before}
    return tuple(
        Event(
            "Warning",
            "ProcessRestarted",
            f"attempt {entry.number}: a process was killed, and all of them started again in their pods "
            f"({entry.process_restarts} so far)",
        )
        for entry in after
        if (entry.process_restarts or 0) > known.get(entry.number, 0)
    )


def _by_type(conditions: Iterable[Condition]) -> dict[str, Condition]:
    return {condition.type: condition for condition in conditions}
