"""Being asked to leave: a node that drains, a pod that is preempted, a job that is suspended."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from modelwright.api.run import TERMINATED, TERMINATION_MESSAGE_FILE
from modelwright.api.variables import STOP_ASKED, STOP_VARIABLE
from modelwright.runtime.failure import EXIT_TERMINATED, RunError, at_step, explain, write_failure
from modelwright.runtime.train.world import World


class Stop:
    """Set when SIGTERM arrives. Training looks at it between two steps, saves and leaves."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._asked: Path | None = None
        """The file that is there when the pod was asked to leave, where no signal comes."""
        self._listener = os.getpid()
        self._before: Any = signal.SIG_DFL
        """What SIGTERM did before."""

    def listen(self) -> None:
        """Take SIGTERM, which only the main thread can. Under Ray none comes: its shell is told who listens."""
        if threading.current_thread() is threading.main_thread():
            self._listener, self._before = os.getpid(), signal.signal(signal.SIGTERM, self._on_signal)
        if (mark := _mark()) is not None:
            with suppress(OSError):
                mark.touch()
                self._asked = mark.with_name(STOP_ASKED)

    def request(self) -> None:
        """Ask for it from within."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set() or (self._asked is not None and self._asked.exists())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._listener:
            self._event.set()
            return
        # A child that was forked, such as one of a Pool, saves nothing, and whoever ends it waits for its end.
        signal.signal(number, self._before or signal.SIG_DFL)
        os.kill(os.getpid(), number)


def withdraw() -> None:
    """Say that nothing in this process saves any more: what is left of its pod need not wait for it."""
    mark = _mark()
    if mark is not None:
        with suppress(OSError):
            mark.unlink(missing_ok=True)


def ask() -> bool:
    """Ask every process of this pod that saves to do so and leave; return whether there is one."""
    mark = _mark()
    if mark is None:
        return False
    with suppress(OSError):
        mark.with_name(STOP_ASKED).touch()
        return any(_lives(entry.name) for entry in mark.parent.iterdir())
    return False


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (OSError, ValueError):
        return False
    return True


def _mark() -> Path | None:
    folder = os.environ.get(STOP_VARIABLE)
    return None if folder is None else Path(folder) / str(os.getpid())


def terminated(step: int, *, saved: bool = True) -> RunError:
    """Return the error of a run that was asked to leave, and has saved what it had or could not."""
    outcome = f"saved at step {step}" if saved else f"step {step} could not be saved"
    return _error(step, f"Asked to stop; {outcome}")


def leave(step: int, world: World, save: Callable[[], bool], path: Path | None = None) -> RunError:
    """Save because somebody asked to stop, and return the error to leave with; every process calls it.

    What the kubelet finds when the grace period ends before the save does says so: it is written first.
    `path` is that of the termination message, which only a pod has.
    """
    target = path or Path(TERMINATION_MESSAGE_FILE)
    if target.exists():
        hint = "the checkpoint did not fit into the grace period: raise checkpoint.graceSeconds"
        write_failure(explain(_error(step, f"Asked to stop at step {step}; {hint}")), target)
    saved = save()
    with suppress(RunError):
        # Nobody leaves before it is done: the first pod that ends takes the others with it. Who is killed before
        # that is no loss to the others any more.
        saved = bool(world.agree(saved))
    return terminated(step, saved=saved)


def _error(step: int, message: str) -> RunError:
    error = RunError(TERMINATED, message, retryable=True, exit_code=EXIT_TERMINATED)
    at_step(error, step)
    return error
