"""The time of day, for what is stamped with it. Durations are measured by `time.monotonic`."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time of day, aware of its zone."""
    return datetime.now(UTC)
