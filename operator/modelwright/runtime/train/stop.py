"""Being asked to leave: a node that drains, a pod that is preempted, a job that is suspended."""

import signal
import threading
from types import FrameType

from modelwright.api.run import TERMINATED
from modelwright.runtime.failure import RunError

EXIT_TERMINATED = 128 + signal.SIGTERM


class Stop:
    """Set when SIGTERM arrives. Training looks at it between two steps, saves and leaves."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def listen(self) -> None:
        """Take SIGTERM. Only the main thread can: under Ray, checkpoints on a timer have to do."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)

    def request(self) -> None:
        """Ask for it from within."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._event.set()


def terminated(step: int) -> RunError:
    """Return the error of a run that was asked to leave and has saved what it had."""
    return RunError(TERMINATED, f"Asked to stop; saved at step {step}", retryable=True, exit_code=EXIT_TERMINATED)
