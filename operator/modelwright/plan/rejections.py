"""What is said of that which the API server does not do: it refuses it, or a webhook that it has to ask is away."""

from modelwright.plan.actions import Rejection
from modelwright.plan.conditions import Reason, State, Verdict

PATIENCE = 180.0
"""Seconds for which a webhook may be away, as in its own update, and all goes on as where the API server is away. Then
that counts as a refusal: who has room in a quota for what cannot be made must not keep it from others for ever."""


def of(refused: Rejection) -> Verdict:
    """Return what is said of an action that was not done."""
    return verdict(f"{refused.action} was refused: {refused.message}", refused.unanswered)


def verdict(message: str, unanswered: float | None) -> Verdict:
    """Return what is said of it; `unanswered` is as in `Rejection`."""
    if unanswered is None or unanswered >= PATIENCE:
        return Verdict(State.STALLED, Reason.CHILD_REJECTED, message)
    return Verdict(State.RECONCILING, Reason.WEBHOOK_UNAVAILABLE, message)
