"""Waiting for what no watch tells."""

import time
from collections.abc import Callable

_POLL_SECONDS = 0.5


def eventually(holds: Callable[[], bool], complaint: str, timeout: float = 60) -> None:
    """Return when something holds; fail with a sentence when it does not come to hold."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, complaint
        time.sleep(_POLL_SECONDS)
