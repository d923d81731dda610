"""The image registry on loopback (Debian's docker-registry)."""

import urllib.error
import urllib.request

from e2e.cluster import files, health
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Layout
from e2e.cluster.ports import Address
from e2e.cluster.processes import Component
from e2e.cluster.settings import REGISTRY_PORT

_ADDRESS = Address("127.0.0.1", REGISTRY_PORT)
_MANIFEST_TYPES = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def component(layout: Layout) -> Component:
    """The registry, without authentication because only this machine reaches it."""
    config = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(layout.registry)}, "delete": {"enabled": True}},
        "http": {"addr": str(_ADDRESS)},
    }
    path = files.write_json(layout.config / "registry.json", config)
    return Component(
        "registry",
        ("/usr/bin/docker-registry", "serve", str(path)),
        reads=(path,),
        listens=(_ADDRESS,),
        ready=lambda: health.answers(f"http://{_ADDRESS}/v2/"),
    )


def has(repository: str, tag: str) -> bool:
    """Whether an image was already pushed."""
    url = f"http://{_ADDRESS}/v2/{repository}/manifests/{tag}"
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": _MANIFEST_TYPES})
    try:
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310
            return True
    except urllib.error.HTTPError as refused:
        if refused.code == 404:
            return False
        raise


def require() -> None:
    """Fail with what to do if the registry does not answer."""
    if not health.answers(f"http://{_ADDRESS}/v2/"):
        raise ClusterError(f"no registry answers at {_ADDRESS}: run `python -m e2e.cluster up` first")
