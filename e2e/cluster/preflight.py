"""What the machine has to offer before anything is started, said in one go."""

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from e2e.cluster import network, paths
from e2e.cluster.errors import ClusterError

_GIGABYTE = 1024**3
_DISK_NEEDED = 10 * _GIGABYTE
_OS_RELEASE = Path("/etc/os-release")


def require() -> None:
    """Raise with everything that is missing, not only with the first."""
    problems = list(_problems())
    if problems:
        raise ClusterError(
            "this machine cannot run the local cluster:\n" + "\n".join(f"  - {line}" for line in problems)
        )


def _problems() -> Iterator[str]:
    if platform.system() != "Linux" or platform.machine() != "x86_64" or not is_debian(_OS_RELEASE):
        yield (
            "it is not a Debian on x86-64; use a cluster that you have (kind, minikube, a cloud's) by its context: "
            "MODELWRIGHT_KUBE_CONTEXT=<name>"
        )
        return
    if os.geteuid() != 0:
        yield "kubelet and containerd need root: run this command with sudo"
    free = _free_disk(paths.state_root())
    if free < _DISK_NEEDED:
        yield (
            f"{free / _GIGABYTE:.0f} GB are free at {paths.state_root()}, {_DISK_NEEDED // _GIGABYTE} GB are needed; "
            "make room, or name another disk in MODELWRIGHT_STATE"
        )
    if shutil.which("ip") and (conflict := network.conflict()):
        yield conflict


def is_debian(release: Path) -> bool:
    """Debian itself, or a distribution that says it is like Debian."""
    fields = dict(line.split("=", 1) for line in release.read_text().splitlines() if "=" in line)
    names = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "")
    return "debian" in names.split()


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
