"""The images of this checkout: built, pushed and pulled only when what they are made of has changed."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import buildcontext, files, locks, paths, progress, pull, registry, runtime
from e2e.cluster.buildah import Buildah
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Layout
from e2e.cluster.settings import REGISTRY

NAMES = buildcontext.NAMES
_GIGABYTE = 1024**3
# Unpacked by buildah, compressed in the registry, unpacked by containerd; torch with CUDA and Ray are most of it.
_DISK_NEEDED = {"runtime": 24 * _GIGABYTE}
_DISK_NEEDED_BY_OTHERS = 2 * _GIGABYTE


def registry_name() -> str:
    """Where images are pushed: the local cluster's registry unless the user names one."""
    return os.environ.get("MODELWRIGHT_IMAGE_REGISTRY") or REGISTRY


def reference(name: str, tag: str) -> str:
    """The full name of one of our images."""
    return f"{registry_name()}/{repository(name)}:{tag}"


def repository(name: str) -> str:
    """The name of one of our images inside a registry."""
    return f"modelwright/{name}"


def recorded(layout: Layout) -> dict[str, str]:
    """The references that `ensure` left, by image name."""
    if not layout.images.exists():
        return {}
    found: dict[str, str] = json.loads(layout.images.read_text())
    return found


def ensure(layout: Layout, names: Sequence[str] = NAMES) -> dict[str, str]:
    """Build, push and pull what is not there yet; return every reference and leave them in a file."""
    local = registry_name() == REGISTRY
    if local:
        registry.require()
    with locks.exclusive(paths.state_root() / "images.lock"):
        for name in names:
            built = _ensure_pushed(layout, name, local=local)
            files.write_json(layout.images, recorded(layout) | {name: built})
            if local:
                _ensure_pulled(layout, built)
    return recorded(layout)


def _ensure_pushed(layout: Layout, name: str, *, local: bool) -> str:
    with tempfile.TemporaryDirectory(prefix="modelwright-build-") as folder:
        context = Path(folder)
        tag = buildcontext.copy(name, context)
        wanted = reference(name, tag)
        if recorded(layout).get(name) == wanted and (not local or registry.has(repository(name), tag)):
            return wanted
        _require_disk(layout, name)
        buildah = Buildah(layout)
        with progress.step(f"building {wanted}"):
            buildah.build(context, context / buildcontext.dockerfile(name), wanted, buildcontext.target(name))
    with progress.step(f"pushing {wanted}"):
        buildah.push(wanted)
    buildah.remove_others(wanted)
    return wanted


def _ensure_pulled(layout: Layout, wanted: str) -> None:
    if wanted not in runtime.images():
        with progress.step(f"pulling {wanted}"):
            pull.through_pod(layout, wanted)
    present, ours = runtime.images(), wanted.rpartition(":")[0]
    earlier = {digest for name, digest in present.items() if name.startswith((f"{ours}:", f"{ours}@"))}
    for name in sorted(name for name, digest in present.items() if digest in earlier - {present[wanted]}):
        runtime.remove_image(name)


def _require_disk(layout: Layout, name: str) -> None:
    if name in recorded(layout):  # its layers are there already: a change of code needs megabytes
        return
    needed = _DISK_NEEDED.get(name, _DISK_NEEDED_BY_OTHERS)
    free = shutil.disk_usage(layout.root).free
    if free < needed:
        raise ClusterError(
            f"the {name} image needs {needed // _GIGABYTE} GB on the way, "
            f"{free / _GIGABYTE:.0f} GB are free at {layout.root}"
        )
