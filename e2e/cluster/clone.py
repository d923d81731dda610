"""A second containerd root with all the images of the first, in seconds and with nothing on the disk but names.

Files of images are never written in place, so both roots can have the very same files (hard links). What containerd
does write are two databases: they are copied, at a moment at which it stands still.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import shell
from e2e.cluster.errors import ClusterError

_SNAPSHOTTER = "io.containerd.snapshotter.v1.overlayfs"
_SNAPSHOTS = f"{_SNAPSHOTTER}/snapshots"
_CONTENT = "io.containerd.content.v1.content/blobs"
# bbolt: pages are written first and then, in one call, the page that points to them. A copy is good at any moment
# between two calls.
_DATABASES = ("io.containerd.metadata.v1.bolt/meta.db", f"{_SNAPSHOTTER}/metadata.db")
_MOUNTS = Path("/proc/self/mounts")
_POLL_SECONDS, _PATIENCE_SECONDS = 0.002, 5.0


def clone(source: Path, target: Path, containerd: int) -> None:
    """Make the root `target` from that of the containerd with the process id `containerd`.

    Containers are in the databases, too, but their own files are not there: remove them before anybody acts on them.
    """
    shell.run(_link(source / _CONTENT, (target / _CONTENT).parent))
    written = in_use(source / _SNAPSHOTS, _MOUNTS.read_text())
    for layer in sorted((source / _SNAPSHOTS).iterdir()):
        if layer.name not in written:
            _link_layer(layer, target / _SNAPSHOTS)
    with _standing_still(containerd):
        for name in _DATABASES:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def in_use(snapshots: Path, mounts: str) -> set[str]:
    """The names of those snapshots into which a running container writes."""
    options = (line.split()[3] for line in mounts.splitlines() if line.startswith("overlay "))
    uppers = (
        Path(word.removeprefix("upperdir=")) for each in options for word in each.split(",") if "upperdir" in word
    )
    return {upper.relative_to(snapshots).parts[0] for upper in uppers if upper.is_relative_to(snapshots)}


def _link_layer(layer: Path, folder: Path) -> None:
    done = shell.attempt(_link(layer, folder))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    # It was no layer, but a container's own: of one that has begun to run, or of one that is being removed.
    while done.returncode != 0 and layer.exists() and layer.name not in in_use(layer.parent, _MOUNTS.read_text()):
        if time.monotonic() > deadline:
            raise ClusterError(f"cannot share {layer} with the second node: {done.stderr.strip()[-500:]}")
        time.sleep(_POLL_SECONDS)


def _link(source: Path, folder: Path) -> list[str | Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return ["cp", "--archive", "--link", f"--target-directory={folder}", "--", source]


@contextmanager
def _standing_still(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        _await_stop(process)
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def _await_stop(process: int) -> None:
    # A thread that writes to the disk stops when the call that it is in has come back.
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while any(_state(path) not in "Tt" for path in Path(f"/proc/{process}/task").glob("*/stat")):
        if time.monotonic() > deadline:
            raise ClusterError(f"process {process} does not stop for a moment; try again")
        time.sleep(_POLL_SECONDS)


def _state(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]
