"""Leaving the machine as it was: mounts, packet filter rules, cgroups, folders."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import binaries, shell
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Layout

_MOUNTS = Path("/proc/self/mounts")
_LOG_LINKS = Path("/var/log/containers")
# What the kubelet and kube-proxy leave in the packet filter even after `kube-proxy --cleanup`.
_KUBERNETES_CHAIN = re.compile(r"\bKUBE-[A-Z-]+\b")


def kube_proxy_rules(layout: Layout) -> None:
    """Remove the chains of kube-proxy and the kubelet; nothing is built for that if nothing was ever started."""
    if not layout.config.exists():
        return
    shell.attempt([binaries.path("kube-proxy"), "--cleanup"])
    for command in ("iptables", "ip6tables"):
        saved = shell.run([f"{command}-save"])
        kept = without_kubernetes(saved)
        if kept != saved:
            shell.run([f"{command}-restore"], text=kept)


def without_kubernetes(saved: str) -> str:
    """A saved packet filter without the lines that name a chain of Kubernetes."""
    return "".join(line for line in saved.splitlines(keepends=True) if not _KUBERNETES_CHAIN.search(line))


def unmount(folders: Sequence[Path]) -> None:
    """Unmount whatever is mounted below some folders."""
    for folder in folders:
        for target in mounts_below(folder, _MOUNTS.read_text()):
            if shell.attempt(["umount", target]).returncode != 0:
                shell.attempt(["umount", "--lazy", target])
        if left := mounts_below(folder, _MOUNTS.read_text()):
            raise ClusterError(f"still mounted, unmount by hand: {', '.join(left)}")


def remove(paths: Sequence[Path]) -> None:
    """Delete files and folders; to be called after `unmount`, or the content of volumes would be deleted too."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_log_links(logs: Path) -> None:
    """Remove the links that the kubelet makes to pods' logs, in a folder that it lets nobody choose."""
    for link in _LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(logs):
            link.unlink()


def mounts_below(folder: Path, mounts: str) -> list[str]:
    """Mount points in a folder, the innermost first."""
    targets = [line.split()[1].replace("\\040", " ") for line in mounts.splitlines()]
    return [target for target in reversed(targets) if Path(target).is_relative_to(folder)]
