"""What an image is built from: exactly the files whose hash is its tag."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from e2e.cluster import paths

NAMES = ("operator", "server", "runtime", "monitoring")
_TAG_LENGTH = 12
# Prometheus and Alertmanager for clusters that have none: a few Debian packages, and nothing of ours.
_MONITORING = Path("e2e/monitoring/Dockerfile")
_OURS = Path("images/Dockerfile")


def dockerfile(name: str) -> Path:
    """The Dockerfile of an image, relative to the repository."""
    return _MONITORING if name == "monitoring" else _OURS


def target(name: str) -> str | None:
    """The stage of that Dockerfile which is the image; None: its last."""
    return None if name == "monitoring" else name


def sources(name: str, repository: Path = paths.REPOSITORY) -> Iterator[Path]:
    """The files of one image's build, relative to the repository, in a fixed order."""
    yield dockerfile(name)
    if name == "monitoring":
        return
    yield from (Path("images/tools.txt"), Path("pyproject.toml"))
    yield from (lock.relative_to(repository) for lock in sorted((repository / "images" / name).glob("*.txt")))
    for path in sorted((repository / "operator").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(repository)


def copy(name: str, destination: Path, repository: Path = paths.REPOSITORY) -> str:
    """Copy the sources of an image to a folder and return the tag that belongs to just these bytes.

    The copy is what gets hashed and built: an editor that saves meanwhile cannot come between the two.
    """
    digest = hashlib.sha256()
    for source in sources(name, repository):
        target = destination / source
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / source, target)
        os.utime(target, (0, 0))  # layers are cached by content and by time
        digest.update(f"{source}\0{target.stat().st_size}\0".encode() + target.read_bytes())
    for folder in destination.rglob("*"):
        os.utime(folder, (0, 0))
    return f"dev-{digest.hexdigest()[:_TAG_LENGTH]}"
