"""A program below this process: its output goes on unchanged, its signals and its end are passed on."""

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_CHUNK = 65536
_DRAIN_SECONDS = 1.0
"""For what is still in the pipes when the program has ended; processes that it left behind may write for ever."""
_NOT_FOUND, _NOT_RUNNABLE, _SIGNALLED = 127, 126, 128
"""Exit codes, as of a shell."""


def run(argv: Sequence[str], env: Mapping[str, str], tee: Callable[[bytes], None], on_stop: Callable[[], None]) -> int:
    """Run a program to its end and return its exit code; 128 and the signal's number where a signal ended it.

    `tee` is given all output; `on_stop` is called when the program is asked to leave.
    """
    pipes = {1: os.pipe(), 2: os.pipe()}
    woken = os.pipe()
    for descriptor in (*woken, *(reader for reader, _ in pipes.values())):
        os.set_blocking(descriptor, False)
    # Before there is a child: the first process of a container never gets a signal that it does not listen to.
    signals = _Signals(woken[1], on_stop)
    try:
        child = _spawn(argv, env, {target: writer for target, (_, writer) in pipes.items()})
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
    for _, writer in pipes.values():
        os.close(writer)
    signals.to(child)
    with selectors.DefaultSelector() as selector:
        selector.register(woken[0], selectors.EVENT_READ)
        for target, (reader, _) in pipes.items():
            selector.register(reader, selectors.EVENT_READ, target)
        status = _follow(child, selector, woken[0], tee)
        signals.to(None)
        _drain(selector, woken[0], tee)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _SIGNALLED - code


def _spawn(argv: Sequence[str], env: Mapping[str, str], targets: Mapping[int, int]) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, writer, target) for target, writer in targets.items()]
    # Python ignores these two, and an ignored signal stays ignored in the program.
    return os.posix_spawnp(argv[0], list(argv), env, file_actions=actions, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ))


class _Signals:
    """Passes signals on to the program, those too that came before it was there."""

    def __init__(self, woken: int, on_stop: Callable[[], None]) -> None:
        self._child: int | None = None
        self._early: list[int] = []
        self._on_stop = on_stop
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)

    def to(self, child: int | None) -> None:
        """Pass them on to a process from now on; None: it has ended, and its number may be another one's."""
        self._child = child
        while child is not None and self._early:
            os.kill(child, self._early.pop(0))

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self._on_stop()
        if self._child is None:
            self._early.append(number)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, number)


def _follow(child: int, selector: selectors.BaseSelector, woken: int, tee: Callable[[bytes], None]) -> int:
    """Pass output on until the program has ended; return its wait status."""
    ended = _reap(child)
    while ended is None:
        for key, _ in selector.select():
            if key.fd == woken:
                os.read(woken, _CHUNK)
            else:
                _pass(selector, key, tee)
        ended = _reap(child)
    return ended


def _reap(child: int) -> int | None:
    """Take leave of every process that has ended: the first of a container inherits those that nobody waits for."""
    status = None
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = ended


def _drain(selector: selectors.BaseSelector, woken: int, tee: Callable[[bytes], None]) -> None:
    selector.unregister(woken)
    deadline = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < deadline and (ready := selector.select(0)):
        for key, _ in ready:
            _pass(selector, key, tee)


def _pass(selector: selectors.BaseSelector, key: selectors.SelectorKey, tee: Callable[[bytes], None]) -> None:
    data = os.read(key.fd, _CHUNK)
    if not data:
        selector.unregister(key.fd)
        return
    tee(data)
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(key.data, rest) :]
    except OSError:
        # Nobody reads any more: that is no reason to stop the program.
        return
