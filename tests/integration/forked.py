"""Processes forked from one that has imported what they need: alone each of them takes seconds for that."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from modelwright.runtime.orphan import end_with_parent
from modelwright.runtime.train import torchrun

_NEEDED = (
    *torchrun.NEEDED,
    "modelwright.runtime.train.agent",
    "e2e.support.agents",
    "modelwright.kube.__main__",
)
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(list(_NEEDED))


class Forked:
    """A process, in the words of `subprocess.Popen`."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)


def start(work: Callable[..., Any], env: Mapping[str, str], log: Path, *arguments: Any) -> Forked:
    """Start `work(*arguments)`, whose result is the exit code; what it prints is appended to a file."""
    process = context.Process(target=_enter, args=(work, dict(env), log, arguments))
    process.start()
    return Forked(process)


def _enter(work: Callable[..., Any], env: dict[str, str], log: Path, arguments: tuple[Any, ...]) -> None:
    # With the server of forks, which goes with the tests.
    end_with_parent()
    os.environ.clear()
    os.environ.update(env)
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    sys.exit(work(*arguments))
