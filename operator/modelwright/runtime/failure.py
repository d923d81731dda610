"""How a pod says why it gave up: one JSON document in its termination message."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path

from pydantic import ValidationError

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.run import (
    PEER_LOST,
    PREFLIGHT_FAILED,
    STORAGE_UNAVAILABLE,
    TERMINATED,
    TERMINATION_MESSAGE_FILE,
    Failure,
)
from modelwright.registry.errors import StoreError, Superseded

logger = logging.getLogger(__name__)

_MESSAGE_LIMIT = 1900
"""Bytes. The kubelet reads 4096 of a termination message, and JSON may write a quote or a line break as two."""
_EXIT_FAILED = 1
EXIT_TERMINATED = 128 + signal.SIGTERM
_STEP = "modelwright_step"
_NODE = "modelwright_node"
_TOLD = "modelwright_failure"
_INFRASTRUCTURE = frozenset({PEER_LOST, TERMINATED, PREFLIGHT_FAILED, "WorkersMissing", "CheckpointLost"})
"""Reasons for which no program is to blame."""
_GPU_FULL = ("CUDA out of memory", "CUDA error: out of memory", "HIP out of memory", "HIP error: out of memory")
"""In what is no error of its own, as of a kernel that could not be launched."""
_YIELD_SECONDS = 2.0
"""Longer than torchrun and the kubelet take to notice that a process has died."""


class RunError(Exception):
    """The run cannot go on. `retryable` says whether another attempt could end differently."""

    def __init__(self, reason: str, message: str, *, retryable: bool, exit_code: int = _EXIT_FAILED) -> None:
        # All arguments go to Exception, so that the error survives being sent between processes.
        super().__init__(reason, message, retryable, exit_code)
        self.reason = reason
        self.message = message
        self.retryable = retryable
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[object, ...]:
        # With what was noted on it: the step, and the node, which the process that it is sent to cannot know.
        return _rebuild, (self.reason, self.message, self.retryable, self.exit_code), self.__dict__

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class DataError(RunError):
    """The data or the configuration is wrong; training again on the same changes nothing."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message, retryable=False)

    def __reduce__(self) -> tuple[object, ...]:
        return DataError, (self.reason, self.message), self.__dict__


def _rebuild(reason: str, message: str, retryable: bool, exit_code: int) -> RunError:
    return RunError(reason, message, retryable=retryable, exit_code=exit_code)


def explain(error: BaseException) -> Failure:
    """Return the failure that an exception stands for; what nobody foresaw may be retried."""
    told: Failure | None = getattr(error, _TOLD, None)
    if told is not None:
        return told
    failure = _failure(error)
    known = {"step": getattr(error, _STEP, None), "node": getattr(error, _NODE, None)}
    return failure.model_copy(update={"failure_class": _class_of(error, failure), **known})


def retold(failure: Failure) -> RunError:
    """Return an error that stands for the failure which another process has left."""
    code = EXIT_TERMINATED if failure.reason == TERMINATED else _EXIT_FAILED
    error = RunError(failure.reason, failure.message, retryable=failure.retryable, exit_code=code)
    setattr(error, _TOLD, failure)
    return error


def at_step(error: Exception, step: int) -> None:
    """Note on an error the step at which it happened: the same error at the same step is not worth a third attempt."""
    setattr(error, _STEP, step)


def on_node(error: Exception, node: str) -> None:
    """Note on an error the node that is to blame, where it is not that of this process; an empty one blames none."""
    setattr(error, _NODE, node)


def _failure(error: BaseException) -> Failure:
    if isinstance(error, RunError):
        return shortened(error.reason, error.message, retryable=error.retryable)
    if isinstance(error, StoreError):
        reason = "Superseded" if isinstance(error, Superseded) else STORAGE_UNAVAILABLE
        return shortened(reason, error.message, retryable=error.retryable)
    if isinstance(error, MemoryError):
        return shortened("OutOfMemory", "The process ran out of memory: raise workers.resources", retryable=True)
    if out_of_memory(error):
        hint = "lower the batch size, or take a device with more memory"
        return shortened("OutOfMemory", f"{type(error).__name__}: {hint}: {error}", retryable=True)
    return shortened("TrainingError", f"{type(error).__name__}: {error}", retryable=True)


def _class_of(error: BaseException, failure: Failure) -> FailureClass:
    if isinstance(error, StoreError) or failure.reason in _INFRASTRUCTURE:
        return FailureClass.INFRASTRUCTURE
    if out_of_memory(error):
        return FailureClass.OUT_OF_MEMORY
    return FailureClass.DATA_ERROR if isinstance(error, DataError) else FailureClass.APPLICATION_ERROR


def out_of_memory(error: BaseException) -> bool:
    """Tell whether there was no more memory: of the process, or of its GPU."""
    # By its name, for torch and Ray each have one of their own, and neither has to be imported here.
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    words = isinstance(error, RuntimeError) and any(word in str(error) for word in _GPU_FULL)
    return isinstance(error, MemoryError) or named or words


def write_failure(failure: Failure, path: Path | None = None) -> None:
    """Leave a failure where Kubernetes picks it up; a cause is never overwritten by what it caused in other processes.

    Those lose it as a peer, and are asked to stop.

    A message that cannot be written is logged: the exit code still tells that the pod failed.
    """
    target = path or Path(TERMINATION_MESSAGE_FILE)
    try:
        before = said(target)
        if before is not None and failure.reason == PEER_LOST:
            return
        if before not in (None, PEER_LOST, TERMINATED) and failure.reason == TERMINATED:
            return
        target.write_text(failure.model_dump_json(by_alias=True))
    except OSError as error:
        logger.warning("the termination message could not be written: %s", error)


def left(path: Path | None = None) -> Failure | None:
    """Return the failure that was left; None where there is none, one of the reason Unknown where it is no JSON."""
    try:
        text = (path or Path(TERMINATION_MESSAGE_FILE)).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    try:
        return Failure.model_validate_json(text) if text else None
    except ValidationError:
        return shortened("Unknown", text, retryable=True)


def said(path: Path | None = None) -> str | None:
    """Return the reason of the failure that was left."""
    found = left(path)
    return None if found is None else found.reason


def forget(reasons: Collection[str], path: Path | None = None) -> None:
    """Take back a failure that was left, if it has one of these reasons: it has come to nothing."""
    if said(path) in reasons:
        with contextlib.suppress(OSError):
            (path or Path(TERMINATION_MESSAGE_FILE)).write_text("")


def leave_behind(failure: Failure, path: Path | None = None, pause: Callable[[float], None] = time.sleep) -> None:
    """Write a failure, and give way to the process that broke if it is not this one.

    The first pod that fails ends the gang, and the others are deleted.
    """
    write_failure(failure, path)
    if failure.reason == PEER_LOST:
        pause(_YIELD_SECONDS)


def guarded(work: Callable[[], None], path: Path | None = None, pause: Callable[[float], None] = time.sleep) -> int:
    """Run a program and return its exit code; an error is logged and left as the termination message."""
    try:
        work()
    except Exception as error:
        failure = explain(error)
        foreseen = isinstance(error, RunError | StoreError)
        logger.log(logging.ERROR, "%s: %s", failure.reason, failure.message, exc_info=not foreseen)
        leave_behind(failure, path, pause)
        return error.exit_code if isinstance(error, RunError) else _EXIT_FAILED
    return os.EX_OK


def shortened(reason: str, message: str, *, retryable: bool) -> Failure:
    """Return a failure that Kubernetes keeps whole, however long the message is."""
    kept = message.encode(errors="replace")[:_MESSAGE_LIMIT].decode(errors="ignore")
    return Failure(reason=reason, message=kept, retryable=retryable)
