"""buildah with storage of its own, and the base image that it cannot pull here."""

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from e2e.cluster import files, paths, progress, shell
from e2e.cluster.paths import Layout

_RELEASE = "bookworm"
BASE_IMAGE = f"docker.io/library/debian:{_RELEASE}-slim"
# As in the image of that name on Docker Hub: packages come without what only people at a terminal read.
_WITHOUT_DOCUMENTATION = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
"""
_DOCUMENTATION = ("doc", "info", "locale", "man")
_HOST_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_UV_CACHE = "/root/.cache/uv"


class Buildah:
    """Builds and pushes without a daemon and without a container runtime."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        roots = ("--root", str(layout.buildah), "--runroot", str(paths.RUN / "buildah"))
        self._command = ("buildah", *roots, "--storage-driver", "overlay")

    def build(self, context: Path, dockerfile: Path, reference: str, target: str | None) -> None:
        """Build an image, with the host's certificates and its uv cache at hand."""
        self.ensure_base()
        uv_cache = Path.home() / ".cache" / "uv"
        uv_cache.mkdir(parents=True, exist_ok=True)
        options = [
            f"--secret=id=authorities,src={_HOST_AUTHORITIES}",
            "--build-arg=SSL_CERT_FILE=/run/secrets/authorities",
            f"--volume={uv_cache}:{_UV_CACHE}",
        ]
        if target is not None:
            options.append(f"--target={target}")
        if index := os.environ.get("PIP_INDEX_URL"):
            options.append(f"--build-arg=INDEX_URL={index}")
        self._bud(context, dockerfile, reference, *options)

    def push(self, reference: str) -> None:
        """Push an image under its own name; only what is on this machine may do without TLS."""
        local = reference.startswith("localhost:")
        options = ["--tls-verify=false", "--compression-format=zstd", "--compression-level=1"] if local else []
        shell.stream([*self._command, "push", *options, reference, f"docker://{reference}"], self._log("push"))

    def remove_others(self, reference: str) -> None:
        """Delete the earlier builds of an image; layers that others share stay."""
        repository = reference.rpartition(":")[0]
        listed = shell.run([*self._command, "images", "--format", "{{.Name}}:{{.Tag}}"]).split()
        for other in listed:
            if other.rpartition(":")[0] == repository and other != reference:
                shell.attempt([*self._command, "rmi", other])

    def ensure_base(self) -> None:
        """Create the Debian base image, once per machine by debootstrap."""
        if shell.attempt([*self._command, "inspect", "--type=image", BASE_IMAGE]).returncode == 0:
            return
        archive = _root_file_system()
        with progress.step(f"creating {BASE_IMAGE}"), tempfile.TemporaryDirectory() as folder:
            context = Path(folder)
            dockerfile = files.write(context / "Dockerfile", 'FROM scratch\nADD rootfs.tar /\nCMD ["bash"]\n')
            shutil.copyfile(archive, context / "rootfs.tar")
            self._bud(context, dockerfile, BASE_IMAGE)

    def _bud(self, context: Path, dockerfile: Path, reference: str, *options: str) -> None:
        # chroot: the other isolations want a user namespace or limits that a virtual machine may refuse.
        how = (
            "--isolation=chroot",
            "--pull-never",
            "--layers",
            "--force-rm",
            f"--file={dockerfile}",
            f"--tag={reference}",
        )
        shell.stream([*self._command, "bud", *how, *options, str(context)], self._log("build"))

    def _log(self, what: str) -> Path:
        return self._layout.logs / f"images-{what}.log"


def _root_file_system() -> Path:
    """A minimal Debian as a tar file in the cache."""
    archive = paths.cache_root() / f"debian-{_RELEASE}.tar"
    if archive.exists():
        return archive
    with progress.step(f"bootstrapping Debian {_RELEASE} (once per machine)"), tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        log = paths.cache_root() / "logs" / "debootstrap.log"
        shell.stream(["debootstrap", "--variant=minbase", _RELEASE, root], log)
        _slim(root)
        fresh = archive.with_suffix(".new")
        with tarfile.open(fresh, "w") as writer:
            writer.add(root, arcname=".")
        fresh.replace(archive)
    return archive


def use_packages_of_host(root: Path, host: Path = Path("/")) -> None:
    """Let the image take packages from where this machine takes Debian's, security updates included.

    On a machine of another release debootstrap's own list stays: packages of two releases do not mix.
    """
    if f"VERSION_CODENAME={_RELEASE}" not in (host / "etc/os-release").read_text().splitlines():
        return
    for name in ("etc/apt/sources.list", "etc/apt/sources.list.d/debian.sources"):
        source = host / name
        # Written even where the host has none: a list that debootstrap left would name the same packages twice.
        files.write(root / name, source.read_text() if source.exists() else "")


def _slim(root: Path) -> None:
    use_packages_of_host(root)
    files.write(root / "etc/dpkg/dpkg.cfg.d/slim", _WITHOUT_DOCUMENTATION)
    for name in _DOCUMENTATION:
        shutil.rmtree(root / "usr/share" / name)
        (root / "usr/share" / name).mkdir()
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    for index in (root / "var/lib/apt/lists").glob("*_*"):
        index.unlink()
