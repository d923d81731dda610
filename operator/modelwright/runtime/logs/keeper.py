"""Keeps the end of an output on S3, now and then while there is something new, and when it is over."""

import os
import threading
from collections.abc import Callable
from typing import TypeAlias

from modelwright.runtime.logs.tail import Tail

_FIRST_SECONDS = 10.0
"""After the program has started: importing what speaks S3 takes most of a second of CPU, which it may have first."""
_SECONDS = 30.0
_BYTES_PER_SECOND = 2**13
"""At most, in the long run: thousands of pods may share a store."""
_LAST_SECONDS = 10.0
"""For the last write, for which the end of the pod waits."""

Put: TypeAlias = Callable[[str, bytes], None]
"""Writes bytes below a key; raises OSError, ValueError or ImportError with a sentence."""


class Keeper:
    """Writes the tail from a thread of its own; a failure is told once, and never in the way of the program."""

    def __init__(self, tail: Tail, key: str, put: Put, first: float = _FIRST_SECONDS) -> None:
        self._tail = tail
        self._key = key
        self._put = put
        self._first = first
        self._kept = 0
        self._told = False
        self._files: dict[str, bytes] = {}
        self._now = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="logs", daemon=True)

    def start(self) -> None:
        """Begin, when the program has."""
        self._thread.start()

    def hurry(self) -> None:
        """Write soon what there is: the program was asked to leave, and may be killed."""
        self._now.set()

    def finish(self, files: dict[str, bytes] | None = None) -> None:
        """Write what is new, and other files beside it, and wait for that, but not for long."""
        self._files = files or {}
        self._ending.set()
        self._now.set()
        self._thread.join(_LAST_SECONDS)

    def _keep(self) -> None:
        wait = self._first
        while not self._ending.is_set():
            self._now.wait(wait)
            self._now.clear()
            wait = max(_SECONDS, self._write() / _BYTES_PER_SECOND)
        self._write()
        for key, data in self._files.items():
            self._try(key, data)

    def _write(self) -> int:
        """Write the tail if it is new; return the bytes that were sent."""
        data, total = self._tail.read()
        if total == self._kept or not self._try(self._key, data):
            return 0
        self._kept = total
        return len(data)

    def _try(self, key: str, data: bytes) -> bool:
        try:
            self._put(key, data)
        except (OSError, ValueError, ImportError) as error:
            self._tell(error)
            return False
        return True

    def _tell(self, error: Exception) -> None:
        # Not when the program has ended: its own last words are what its failure is known by.
        if not self._told and not self._ending.is_set():
            os.write(2, f"the end of this log cannot be kept on S3, the job goes on: {error}\n".encode())
            self._told = True
