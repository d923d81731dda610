"""Windows of counts on S3: one document for each window in which there was traffic."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from modelwright.api.artifacts import Window
from modelwright.api.layout import window_key
from modelwright.api.serve import Serve
from modelwright.registry.errors import StoreError
from modelwright.runtime.monitor.counters import Counters

BACKLOG = 32
"""Windows that wait for a store that is down; the oldest gives way."""
_RETRY_SECONDS = 5.0
_FINISH_SECONDS = 8.0

_log = logging.getLogger("modelwright.monitor")


class WindowWriter(threading.Thread):
    """Closes a window at every multiple of the window's length in Unix time, and writes it.

    A store that is down or slow costs memory up to a bound, and never a request: all of it happens in this thread.
    Windows say from when to when they really counted; the first begins when the process does.
    """

    def __init__(
        self,
        serve: Serve,
        replica: str,
        counters: Counters,
        write: Callable[[str, dict[str, Any]], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name="windows", daemon=True)
        self.outcomes = {"written": 0, "failed": 0, "dropped": 0}
        self._serve = serve
        self._replica = replica
        self._counters = counters
        self._write = write
        self._clock = clock
        self._start = clock()
        self._waiting: deque[Window] = deque()
        self._told_to_stop = threading.Event()

    def run(self) -> None:
        """Close and write windows until told to finish."""
        while not self._told_to_stop.wait(self._pause()):
            self.step()
        self.close_window(self._clock())
        self.write_waiting()

    def finish(self) -> None:
        """Close the last window early and give it a short time to be written."""
        self._told_to_stop.set()
        self.join(_FINISH_SECONDS)

    def step(self) -> None:
        """Close the window if it is over, and write what waits."""
        now = self._clock()
        if now >= self._boundary():
            # Late by much (a slow store held this thread up): the window is as long as it really was.
            self.close_window(now - now % self._serve.monitoring.window_seconds)
        self.write_waiting()

    def close_window(self, end: float) -> None:
        """Put the counts since the last window among those to be written; an empty window is passed over."""
        start, self._start = self._start, end
        counts = self._counters.take_window()
        if counts.rows == 0:
            return
        if len(self._waiting) == BACKLOG:
            self._waiting.popleft()
            self.outcomes["dropped"] += 1
        self._waiting.append(
            Window(
                model=self._serve.model,
                version=self._serve.version,
                replica=self._replica,
                start=_stamp(start),
                end=_stamp(end),
                rows=counts.rows,
                columns={name: tuple(column.tolist()) for name, column in counts.columns.items()},
                prediction=tuple(counts.prediction.tolist()),
            )
        )

    def write_waiting(self) -> None:
        """Write windows, oldest first, until one cannot be written."""
        while self._waiting:
            window = self._waiting[0]
            try:
                self._write(self._key(window), window.document())
            except StoreError as error:
                self.outcomes["failed"] += 1
                _log.warning("a window could not be written, %d wait: %s", len(self._waiting), error)
                return
            self._waiting.popleft()
            self.outcomes["written"] += 1

    def _key(self, window: Window) -> str:
        start = int(datetime.fromisoformat(window.start).timestamp())
        return window_key(self._serve.namespace, self._serve.deployment, window.version, start, window.replica)

    def _boundary(self) -> float:
        length = self._serve.monitoring.window_seconds
        return (self._start // length + 1) * length

    def _pause(self) -> float:
        left = max(0.0, self._boundary() - self._clock())
        return min(left, _RETRY_SECONDS) if self._waiting else left


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
