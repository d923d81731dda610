"""A warm spare: a copy of this process from which new ones are forked, so that they have nothing to import.

It is the fork server of `multiprocessing`, but forked from this process instead of started as a new program, which
would have to import everything again. Whoever starts it must not have a device or a connection yet, nor a thread but
those of libraries that look after them in a fork (OpenBLAS, jemalloc).
"""

import gc
import os
import sys
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker, util

from modelwright.runtime.orphan import end_with_parent

_started: list[int] = []
"""The process id of the spare."""


def start() -> None:
    """Start it; what `multiprocessing` starts in this process by the method `forkserver` comes from it from now on."""
    # A small program of its own, which `multiprocessing` starts in the same way.
    resource_tracker.ensure_running()
    # What the collector does not look at is not copied for it. Looking once for what could go would take as long as a
    # tenth of the imports, and find next to nothing.
    gc.freeze()
    spawn = util.spawnv_passfds
    util.spawnv_passfds = _fork
    try:
        forkserver.ensure_running()
    finally:
        util.spawnv_passfds = spawn


def is_gone() -> bool:
    """Tell whether a spare was started, and has ended."""
    try:
        return any(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None for pid in _started)
    except ChildProcessError:
        return True


def _fork(path: bytes, args: Sequence[object], passfds: Sequence[int]) -> int:
    """Run the program behind `-c` in a copy of this process, with these files alone; return the copy's process id."""
    if process := os.fork():
        _started[:] = [process]
        return process
    code = 1
    try:
        # The processes that it has forked have the pipe by which it would notice the end of the agent.
        end_with_parent()
        # Above all the pipe by which it notices that its last client has gone.
        _close_all_but(passfds)
        exec(str(args[-1]), {})  # noqa: S102 (what multiprocessing would have given to a new interpreter)
    except SystemExit:
        code = 0
    except BaseException:  # noqa: BLE001 (nobody else can tell of it)
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _close_all_but(files: Sequence[int]) -> None:
    last = 2
    for file in [*sorted(files), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(last + 1, file)
        last = file
