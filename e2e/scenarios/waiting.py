"""Waiting for what no watch tells."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.5


def eventually(holds: Callable[[], T], complaint: str, timeout: float = 60) -> T:
    """Return what says that something holds; fail with a sentence when it does not come to hold."""
    deadline = time.monotonic() + timeout
    while not (found := holds()):
        assert time.monotonic() < deadline, complaint
        time.sleep(_POLL_SECONDS)
    return found
