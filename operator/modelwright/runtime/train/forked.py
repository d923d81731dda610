"""The processes of an agent, forked from its spare where torchrun would start a program for each.

torch can start functions as well, but lets each of them wait at its end for an event that all share: a process that is
killed in that moment leaves the agent waiting for good. Here an exit code is all that is waited for.
"""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

from torch.distributed.elastic.multiprocessing.api import PContext, SubprocessContext

from modelwright.runtime.orphan import end_with_parent
from modelwright.runtime.train import spare

_UNKNOWN = 255
"""What `multiprocessing` says then."""


class _Process:
    """A process of `multiprocessing`, in the words of `subprocess.Popen`."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        process.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def poll(self) -> int | None:
        code = self._process.exitcode
        # Of a process whose fork server has gone nobody knows how it ended; it ends with that, by the same signal.
        return -signal.SIGKILL if code == _UNKNOWN and spare.is_gone() else code

    def wait(self, timeout: float) -> None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)


class _Handler:
    """What torch holds a process by."""

    def __init__(self, process: BaseProcess) -> None:
        self.proc = _Process(process)

    def close(self, death_sig: signal.Signals) -> None:
        if self.proc.pid is not None and self.proc.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.proc.pid, death_sig)


class _Forked(SubprocessContext):  # type: ignore[misc]
    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        self.subprocess_handlers = {
            rank: _Handler(context.Process(target=_enter, args=(self.entrypoint, environment)))
            for rank, environment in self.envs.items()
        }


def _enter(work: Callable[[], None], environment: Mapping[str, str]) -> None:
    # The spare ends with the agent. Under Ray that may be killed in a pod that goes on.
    end_with_parent()
    os.environ.update(environment)
    work()


def start_processes(*, start_method: str, **asked: Any) -> PContext:
    """Start a process for each local rank; stands in for the function of this name in `torch.distributed.elastic`."""
    del start_method
    processes = _Forked(**asked)
    processes.start()
    return processes
