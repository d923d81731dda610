"""Images as if they had not been read since the machine started, as far as that can be had: out of the page cache."""

import os
from contextlib import suppress
from pathlib import Path

from e2e.cluster.paths import Layout

_SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"
_KIB = 1024


def forget_images(layout: Layout | None = None) -> float:
    """Tell the kernel to drop what it has cached of all pulled images, and return by how many MiB its cache shrank.

    Files that a running process has mapped stay. Only on the local cluster, whose node is this machine.
    """
    root = (layout or Layout.default()).containerd
    before = cached_mib()
    # Containers may come and go meanwhile; the walk passes over a folder that has gone.
    for folder, _, names in os.walk(root / _SNAPSHOTS):
        for name in names:
            forget(Path(folder, name))
    return max(0.0, before - cached_mib())


def forget(path: Path) -> None:
    """Drop a file from the page cache (posix_fadvise(2), POSIX_FADV_DONTNEED)."""
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NOATIME | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def cached_mib(meminfo: Path = Path("/proc/meminfo")) -> float:
    """Return the size of the page cache in MiB."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["Cached"].split()[0]) / _KIB
