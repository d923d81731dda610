"""Processes of a gang on this machine, forked from one that has imported torch: alone each of them takes seconds."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from e2e.cluster import ports
from e2e.support import agents
from modelwright.runtime.train import torchrun

_SECONDS = 120
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*torchrun.NEEDED, "modelwright.runtime.train.agent", "e2e.support.agents"])


def start(work: Callable[..., None], size: int, *arguments: Any) -> list[BaseProcess]:
    """Start processes that find each other as torchrun's do; each calls `work(*arguments)`."""
    (port,) = ports.free(1)
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes: list[BaseProcess] = []
    for rank in range(size):
        process = _context.Process(target=_enter, args=({**place, "RANK": str(rank)}, work, arguments))
        process.start()
        processes.append(process)
    return processes


def agent(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> agents.Agent:
    """Start an agent of torchrun's arguments; a `Start` of `local_gang`."""
    process = _context.Process(target=_launch, args=(list(arguments), dict(env), log))
    process.start()
    return _Agent(process)


class _Agent:
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
            raise subprocess.TimeoutExpired("agent", timeout or 0)
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)


def _launch(arguments: list[str], env: dict[str, str], log: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    with log.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    agents.launch(arguments)


def end(processes: list[BaseProcess]) -> None:
    """Kill those that are still there."""
    for process in processes:
        process.kill()
        process.join()


def answers(work: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
    """Return what `work(*arguments)` returns in each process, by rank; what one of them raises ends all."""
    ours, theirs = _context.Pipe(duplex=False)
    processes = start(_answer, size, theirs, work, arguments)
    deadline, found = time.monotonic() + _SECONDS, dict[str, Any]()
    try:
        while len(found) < size:
            ready = wait([ours], max(0.0, deadline - time.monotonic()))
            assert ready, f"only ranks {sorted(found)} have answered"
            rank, answer = ours.recv()
            if isinstance(answer, BaseException):
                raise answer
            found[rank] = answer
    finally:
        end(processes)
    return [answer for _, answer in sorted(found.items())]


def _enter(place: dict[str, str], work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= place
    work(*arguments)


def _answer(to: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        answer = work(*arguments)
    except Exception as error:  # noqa: BLE001 (raised again by who asked)
        answer = error
    to.send((os.environ["RANK"], answer))
