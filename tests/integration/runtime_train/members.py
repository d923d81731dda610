"""Processes of a gang on this machine."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from e2e.cluster import ports
from e2e.support import agents
from e2e.support.programs import Running
from tests.integration import forked

_SECONDS = 120


def start(work: Callable[..., None], size: int, *arguments: Any) -> list[BaseProcess]:
    """Start processes that find each other as torchrun's do; each calls `work(*arguments)`."""
    (port,) = ports.free(1)
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes: list[BaseProcess] = []
    for rank in range(size):
        process = forked.context.Process(target=_enter, args=({**place, "RANK": str(rank)}, work, arguments))
        process.start()
        processes.append(process)
    return processes


def agent(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Running:
    """Start an agent of torchrun's arguments; a `Start` of `local_gang`."""
    return forked.start(agents.launch, env, log, list(arguments))


def end(processes: list[BaseProcess]) -> None:
    """Kill those that are still there."""
    for process in processes:
        process.kill()
        process.join()


def answers(work: Callable[..., Any], size: int, *arguments: Any) -> list[Any]:
    """Return what `work(*arguments)` returns in each process, by rank; what one of them raises ends all."""
    ours, theirs = forked.context.Pipe(duplex=False)
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
