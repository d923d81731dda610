"""Debian packages, installed without starting any of the services that they bring."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import paths, progress, shell
from e2e.cluster.errors import ClusterError

# dpkg's maintainer scripts ask this program before they start a service; 101 means "no".
_POLICY = Path("/usr/sbin/policy-rc.d")
_LOCKED_SECONDS = 300
_DENY_ALL = "#!/bin/sh\nexit 101\n"


def missing(wanted: Sequence[str]) -> list[str]:
    """Those of the packages that are not installed."""
    answer = shell.attempt(["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *wanted])
    installed = {line.split()[1] for line in answer.stdout.splitlines() if line.startswith("installed ")}
    return [package for package in wanted if package not in installed]


def ensure(wanted: Sequence[str]) -> None:
    """Install what is missing; the package index is fetched only if it does not know a package, or is too old."""
    absent = missing(wanted)
    if not absent:
        return
    with progress.step(f"installing Debian packages: {' '.join(absent)}"), _services_stay_down():
        if not _known(absent):
            _apt_get("update")
        if not _known(absent):
            raise ClusterError(f"apt knows no such package: {' '.join(absent)}; check /etc/apt/sources.list.d")
        _install(absent)


def _install(wanted: Sequence[str]) -> None:
    words = ("install", "--yes", "--no-install-recommends", *wanted)
    try:
        _apt_get(*words)
    except ClusterError:
        # An old index names versions that the archive has replaced since.
        _apt_get("update")
        _apt_get(*words)


def _known(wanted: Sequence[str]) -> bool:
    return shell.attempt(["apt-cache", "show", "--no-all-versions", *wanted]).returncode == 0


def _apt_get(*words: str) -> None:
    log = paths.state_root() / f"apt-get-{words[0]}.log"
    # A machine that has just booted may be updating itself.
    patience = ("--option", f"DPkg::Lock::Timeout={_LOCKED_SECONDS}")
    shell.stream(
        ["apt-get", "-qq", *patience, *words], log, environment=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    )


@contextmanager
def _services_stay_down() -> Iterator[None]:
    if _POLICY.exists():  # the machine has a policy of its own
        yield
        return
    _POLICY.write_text(_DENY_ALL)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
