"""The end of an output, in bounded memory."""

import threading

KEPT = 2**20
"""Bytes: about ten thousand lines."""


class Tail:
    """Remembers the last bytes of what is added. One thread adds while another reads."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._held = bytearray()
        self._lock = threading.Lock()
        self.total = 0
        """Bytes that were ever added."""

    def add(self, data: bytes) -> None:
        """Take output in."""
        with self._lock:
            self._held += data
            self.total += len(data)
            # Not at each call: to cut moves everything that stays.
            if len(self._held) > 2 * self._kept:
                del self._held[: -self._kept]

    def read(self) -> tuple[bytes, int]:
        """Return the end, from a line's beginning where something is cut off, and the total that it belongs to."""
        with self._lock:
            end, total = bytes(self._held[-self._kept :]), self.total
        if len(end) < total:
            end = end[end.find(b"\n") + 1 :]
        return end, total
