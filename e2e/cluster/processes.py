"""Starting, recognising and stopping long-lived processes.

A process is recorded by its id *and* the moment it started, in this boot: an id alone may by now belong to
somebody else, and that process must never be signalled.
"""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from e2e.cluster import files, ports, shell
from e2e.cluster.errors import ClusterError

_POLL_SECONDS = 0.05
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Component:
    """A program that runs as long as the cluster does."""

    name: str
    argv: tuple[str, ...]
    # Read at start: a change of their content restarts the component.
    reads: tuple[Path, ...] = ()
    listens: tuple[ports.Address, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] = lambda: True

    def fingerprint(self) -> str:
        """A hash of everything that a running process cannot pick up by itself."""
        digest = hashlib.sha256(json.dumps([self.argv, self.environment], sort_keys=True).encode())
        for path in self.reads:
            digest.update(path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Record:
    """What is remembered of a started process."""

    pid: int
    started: str
    fingerprint: str

    def alive(self) -> bool:
        """Whether that very process still runs."""
        return start_mark(self.pid) == self.started


def start_mark(pid: int) -> str | None:
    """This boot and the tick at which a process started, or None if it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name comes second, in parentheses, and may itself hold spaces and parentheses.
    after_name = stat.rpartition(")")[2].split()
    state, start_ticks = after_name[0], after_name[19]
    if state in "ZX" and not _other_threads(pid):
        return None
    return f"{_BOOT_ID.read_text().strip()}/{start_ticks}"


def _other_threads(pid: int) -> int:
    # A killed program's first thread can be a zombie while others still hold its sockets: it has not ended yet.
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir())) - 1
    except (FileNotFoundError, ProcessLookupError):
        return 0


class Supervisor:
    """The components of one cluster, remembered in a folder so that the next command finds them."""

    def __init__(self, records: Path, logs: Path) -> None:
        self._records = records
        self._logs = logs

    def log(self, name: str) -> Path:
        """Where a component writes what it has to say."""
        return self._logs / f"{name}.log"

    def names(self) -> list[str]:
        """Every component that was started and not stopped, dead or alive."""
        return sorted(path.stem for path in self._records.glob("*.json"))

    def find(self, name: str) -> Record | None:
        """What is remembered of a component."""
        try:
            return Record(**json.loads(self._path(name).read_text()))
        except FileNotFoundError:
            return None

    def alive(self, name: str) -> bool:
        """Whether a component runs."""
        record = self.find(name)
        return record is not None and record.alive()

    def require(self, *names: str) -> None:
        """Raise ClusterError, with what to do, unless all of them run."""
        if dead := [name for name in names if not self.alive(name)]:
            raise ClusterError(f"not running: {', '.join(dead)}; run `python -m e2e.cluster up` first")

    def launch(self, component: Component) -> bool:
        """Start a component unless it runs as described; True says that it was started now."""
        record = self.find(component.name)
        fingerprint = component.fingerprint()
        if record is not None and record.alive():
            if record.fingerprint == fingerprint:
                return False
            self.stop(component.name)
        for address in component.listens:
            ports.require_free(address, component.name)
        pid = self._spawn(component)
        mark = start_mark(pid) or "ended at once"
        files.write_json(self._path(component.name), asdict(Record(pid, mark, fingerprint)))
        return True

    def await_ready(self, component: Component, seconds: float = 60) -> None:
        """Return when a component answers; say why it does not if it died or takes too long."""
        deadline = time.monotonic() + seconds
        while not component.ready():
            if not self.alive(component.name):
                raise self._failure(component.name, "ended")
            if time.monotonic() > deadline:
                raise self._failure(component.name, f"is not ready after {seconds:.0f} seconds")
            time.sleep(_POLL_SECONDS)

    def stop(self, name: str, grace: float = 10) -> bool:
        """End a component, kindly first; True says that it was running."""
        record = self.find(name)
        running = record is not None and record.alive()
        if record is not None and running:
            _end(record, grace)
        self._path(name).unlink(missing_ok=True)
        return running

    def _spawn(self, component: Component) -> int:
        log = self.log(component.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():  # why the last one died is often the question
            log.replace(log.with_suffix(".previous.log"))
        with log.open("ab") as sink:
            process = subprocess.Popen(
                component.argv,
                env=os.environ | component.environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # It outlives this command on purpose: without this, Popen warns that nobody waits for it.
        process.returncode = 0
        return process.pid

    def _failure(self, name: str, what: str) -> ClusterError:
        log = self.log(name)
        return ClusterError(f"{name} {what}; the end of {log}:\n{shell.tail(log)}")

    def _path(self, name: str) -> Path:
        return self._records / f"{name}.json"


def _end(record: Record, grace: float) -> None:
    for sign, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        if record.alive():
            os.kill(record.pid, sign)
        while record.alive():
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        else:
            return
    raise ClusterError(f"process {record.pid} does not end, not even by SIGKILL")
