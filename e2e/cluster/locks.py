"""One command at a time, where two would be in each other's way."""

import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from e2e.cluster import paths, progress


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel gives back when this process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"waiting for another command that holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cluster() -> AbstractContextManager[None]:
    """Hold the cluster: two commands that start and stop the same processes would leave some of them unrecorded."""
    return exclusive(paths.state_root() / "cluster.lock")
