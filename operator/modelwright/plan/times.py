"""RFC 3339 timestamps of whole seconds, as Kubernetes writes them."""

from datetime import UTC, datetime
from typing import TypeGuard


def stamp(moment: datetime) -> str:
    """Return `2026-11-23T10:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    """Return the moment that a timestamp names. Raises ValueError."""
    return datetime.fromisoformat(text)


def is_stamp(text: object) -> TypeGuard[str]:
    """Tell whether something that anybody may have written is such a timestamp."""
    try:
        return isinstance(text, str) and stamp(parse(text)) == text
    except (ValueError, OverflowError):
        return False


def seconds_between(earlier: str, later: datetime) -> float:
    """Return the seconds from a timestamp to a moment."""
    return (later - parse(earlier)).total_seconds()


def soonest(*waits: float | None) -> float | None:
    """Return the earliest of some waits, in seconds; None is for ever."""
    return min((max(0.0, wait) for wait in waits if wait is not None), default=None)


def sooner(first: float | None, second: float) -> float:
    """Return the earlier of two waits, in seconds; None is for ever."""
    return max(0.0, second) if first is None else min(first, max(0.0, second))
