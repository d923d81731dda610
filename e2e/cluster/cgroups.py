"""Control groups of one name, in every hierarchy that the machine has: made, emptied, removed."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from e2e.cluster.errors import ClusterError

_ROOT = Path("/sys/fs/cgroup")
_PROCESSES = "cgroup.procs"
# One hierarchy is enough to know a process by; this one puts no bounds on anybody.
_KNOWN_BY = "freezer"
_POLL_SECONDS = 0.02


def hierarchies(root: Path = _ROOT) -> list[Path]:
    """The tops of all hierarchies: one with cgroup v2, one for each controller with v1."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())


def make(name: str, root: Path = _ROOT) -> None:
    """Create a cgroup in all hierarchies."""
    for top in hierarchies(root):
        (top / name).mkdir(parents=True, exist_ok=True)


def joining(name: str, argv: tuple[str, ...], root: Path = _ROOT) -> tuple[str, ...]:
    """The command that moves itself into a cgroup, and then becomes `argv`: its children will be there as well."""
    top = root / _KNOWN_BY if (root / _KNOWN_BY).is_dir() else root
    return ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(top / name / _PROCESSES), *argv)


def processes(name: str, root: Path = _ROOT) -> set[int]:
    """The processes in a cgroup and in all those below it."""
    found: set[int] = set()
    for top in hierarchies(root):
        for path in (top / name).rglob(_PROCESSES):
            with suppress(FileNotFoundError):  # it went away just now
                found.update(map(int, path.read_text().split()))
    return found


def kill(name: str, seconds: float = 20) -> bool:
    """End all processes of a cgroup by SIGKILL; True says that there were some. Those that they start end as well."""
    deadline = time.monotonic() + seconds
    some = False
    while found := processes(name):
        some = True
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise ClusterError(f"processes do not end, not even by SIGKILL: {sorted(found)}")
        time.sleep(_POLL_SECONDS)
    return some


def remove(name: str, root: Path = _ROOT) -> bool:
    """Remove the empty cgroups of a name, with those below it; False says that somebody still runs in one."""
    kept = [top for top in hierarchies(root) if not _remove(top / name)]
    return not kept


def _remove(top: Path) -> bool:
    if not top.is_dir():
        return True
    nested = [path for path in top.rglob("*") if path.is_dir()]
    for group in (*sorted(nested, reverse=True), top):
        try:
            group.rmdir()
        except OSError:
            return False
    return True
