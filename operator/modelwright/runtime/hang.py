"""What a process does that makes no step any more: say where it stands, leave that on S3, and end."""

import contextlib
import faulthandler
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from modelwright.api import layout
from modelwright.api.failurepolicy import FailureClass
from modelwright.api.run import HANG, Run
from modelwright.registry.errors import StoreError
from modelwright.registry.store import ObjectStore, open_store
from modelwright.runtime.failure import shortened, write_failure
from modelwright.runtime.logs import STACKS_VARIABLE
from modelwright.runtime.watchdog import LEAST_SECONDS, Patience, Standstill, Watchdog

logger = logging.getLogger(__name__)

COLLECTIVE_TIMEOUT = timedelta(days=3)
"""Longer than any patience: the watchdog is to find a hang, and not a collective, which would call it a lost peer."""
_LEAST_WAIT, _MOST_WAIT, _WAIT_SHARE = 10.0, 60.0, 0.05
"""Seconds for the stacks of the others. They stand still for as long, but may have learnt another patience."""
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Process:
    """One process of a gang, and where it leaves what it has to say."""

    run: Run
    rank: int
    size: int
    thread: int = field(default_factory=threading.get_ident)
    """The thread that makes the steps."""
    store: Callable[[], ObjectStore] | None = None
    message_file: Path | None = None
    leave: Callable[[int], None] = os._exit

    def end(self, found: Standstill) -> None:
        """Say where this process stands, see that the others have done so, and end it with code 1."""
        text = self._stacks(found)
        said = f"{_since(found)}{_where(self.thread)}"
        logger.error("%s", said)
        sys.stderr.write(text)
        # Before anything that can take long: the end of another process may tear this one along.
        self._tell(f"{said}; its log has the stacks", found.step)
        wait = min(max(_LEAST_WAIT, _WAIT_SHARE * found.seconds), _MOST_WAIT)

        def keep() -> None:
            self._keep(text, lambda: self._tell(f"{said}; stacks are at {self._uri}", found.step), wait)

        keeping = threading.Thread(target=keep, daemon=True)
        keeping.start()
        keeping.join(wait)
        sys.stdout.flush()
        sys.stderr.flush()
        self.leave(1)

    @property
    def _uri(self) -> str:
        return f"{self.run.storage.uri}/{self._prefix}"

    @property
    def _prefix(self) -> str:
        return layout.stacks_prefix(self.run.namespace, self.run.uid, self.run.attempt)

    def _stacks(self, found: Standstill) -> str:
        names = "\n".join(f"{thread.ident:#018x} is {thread.name}" for thread in threading.enumerate())
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return f"rank {self.rank} of {self.size}: {_since(found)}\n{names}\n\n{file.read()}"

    def _tell(self, message: str, step: int | None) -> None:
        told = shortened(HANG, message, retryable=True)
        write_failure(told.model_copy(update={"failure_class": FailureClass.HANG, "step": step}), self.message_file)

    def _keep(self, text: str, kept: Callable[[], None], wait: float) -> None:
        """Write the stacks, and wait for those of the others; storage that is down costs no more than the wait."""
        run, deadline = self.run, time.monotonic() + wait
        try:
            store = self.store() if self.store else open_store(run.storage, read_seconds=5, attempts=2)
            store.write(layout.stack_key(run.namespace, run.uid, run.attempt, self.rank), text.encode())
            kept()
            while len(store.list(self._prefix)) < self.size and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        except StoreError as error:
            logger.warning("the stacks above could not be kept on S3: %s", error.message)


@contextlib.contextmanager
def watching(run: Run, least: float = LEAST_SECONDS) -> Iterator[Watchdog]:
    """Watch the calling thread's steps until the block is left or the watchdog closed; where the spec wants that.

    `least`: seconds that a step is given in any case, where the spec says nothing. Rank and size are those that
    torchrun or Ray left in the environment.
    """
    if not run.training.hang.enabled:
        yield Watchdog()
        return
    preflight = run.training.preflight
    # The roll call and the collective: what they find says more than a hang would.
    checks = 2.0 * preflight.timeout_seconds if preflight.enabled else 0.0
    process = Process(run, int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    with _backstop(process.rank) as file:
        patience = Patience(run.training.hang.timeout_seconds, least, extra=checks)
        watchdog = Watchdog(patience, process.end, backstop=file)
        watchdog.start()
        try:
            yield watchdog
        finally:
            watchdog.close()


@contextlib.contextmanager
def _backstop(rank: int) -> Iterator[int]:
    """Open the file that whoever keeps the log looks for when this process is gone; standard error without one."""
    folder = os.environ.get(STACKS_VARIABLE)
    if folder is None or not Path(folder).is_dir():
        yield 2
        return
    with (Path(folder) / f"rank-{rank}.txt").open("w") as file:
        yield file.fileno()


def _since(found: Standstill) -> str:
    if found.step is None:
        return f"no step within {found.seconds:.0f} s of the start"
    return f"no step for {found.seconds:.0f} s after step {found.step}"


def _where(thread: int) -> str:
    """Return ` in all_reduce (distributed_c10d.py:2810)`: where the thread that makes the steps is now."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 (documented, for exactly this)
    if frame is None:
        return ""
    code = frame.f_code
    return f", in {code.co_qualname} ({Path(code.co_filename).name}:{frame.f_lineno})"
