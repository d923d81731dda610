"""The cluster that the demo and the end-to-end tests run on: the local one, or one that the user names.

A named context always wins. It is the user's cluster, so nothing is started or built for it: images and the
S3 store are named in the environment.

    MODELWRIGHT_KUBE_CONTEXT       a context of the usual kubeconfig (KUBECONFIG, or ~/.kube/config)
    MODELWRIGHT_IMAGE_REGISTRY     where its nodes pull from; `python -m e2e.cluster images` pushes there as well
    MODELWRIGHT_S3_ENDPOINT        as pods reach it
    MODELWRIGHT_S3_HOST_ENDPOINT   as this machine reaches it, where that differs
    MODELWRIGHT_S3_ACCESS_KEY, MODELWRIGHT_S3_SECRET_KEY, MODELWRIGHT_S3_REGION, MODELWRIGHT_S3_BUCKET
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster import binaries, images, lifecycle, storage
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.paths import Layout
from e2e.cluster.settings import CLUSTER_NAME, S3_BUCKET, S3_REGION


@dataclass(frozen=True)
class S3:
    """An S3 store with a bucket that exists."""

    endpoint: str
    """As pods reach it."""
    host_endpoint: str
    """As this machine reaches it."""
    access_key: str
    secret_key: str
    region: str
    bucket: str


@dataclass(frozen=True)
class Target:
    """Where to run, and with what."""

    kubeconfig: Path
    context: str
    local: bool
    s3: S3
    images: Mapping[str, str]
    """References of the images `operator`, `server`, `runtime` and `monitoring`."""

    @property
    def kubectl(self) -> Kubectl:
        """kubectl bound to this cluster."""
        return Kubectl(self.kubeconfig, self.context, kubectl=self._program("kubectl"))

    @property
    def helm(self) -> tuple[str, ...]:
        """The beginning of a helm command for this cluster."""
        return (str(self._program("helm")), f"--kubeconfig={self.kubeconfig}", f"--kube-context={self.context}")

    def _program(self, name: str) -> Path:
        """The user's own for the user's own cluster; for ours the build that fits its version."""
        own = None if self.local else shutil.which(name)
        return Path(own) if own else binaries.path(name)


def resolve(context: str | None = None) -> Target:
    """Return the target; what is missing is named in the error, with the command or variable that supplies it."""
    named = context or os.environ.get("MODELWRIGHT_KUBE_CONTEXT")
    return _named(named) if named else _local(Layout.default())


def _local(layout: Layout) -> Target:
    dead = [condition.name for condition in lifecycle.status(layout) if not condition.up]
    if dead:
        raise ClusterError(f"not running: {', '.join(dead)}; run `python -m e2e.cluster up`")
    account = storage.credentials(layout)
    return Target(
        kubeconfig=layout.kubeconfig,
        context=CLUSTER_NAME,
        local=True,
        s3=S3(
            endpoint=storage.CLUSTER_ENDPOINT,
            host_endpoint=storage.HOST_ENDPOINT,
            access_key=account.access_key,
            secret_key=account.secret_key,
            region=S3_REGION,
            bucket=S3_BUCKET,
        ),
        images=_images(layout),
    )


def _named(context: str) -> Target:
    endpoint = _required("MODELWRIGHT_S3_ENDPOINT")
    _required("MODELWRIGHT_IMAGE_REGISTRY")
    return Target(
        kubeconfig=_kubeconfig_with(context),
        context=context,
        local=False,
        s3=S3(
            endpoint=endpoint,
            host_endpoint=os.environ.get("MODELWRIGHT_S3_HOST_ENDPOINT", endpoint),
            access_key=_required("MODELWRIGHT_S3_ACCESS_KEY"),
            secret_key=_required("MODELWRIGHT_S3_SECRET_KEY"),
            region=os.environ.get("MODELWRIGHT_S3_REGION", S3_REGION),
            bucket=os.environ.get("MODELWRIGHT_S3_BUCKET", S3_BUCKET),
        ),
        images=_images(Layout.default()),
    )


def _images(layout: Layout) -> dict[str, str]:
    prefix = f"{images.registry_name()}/"
    pushed = {name: found for name, found in images.recorded(layout).items() if found.startswith(prefix)}
    missing = [name for name in images.NAMES if name not in pushed]
    if missing:
        raise ClusterError(f"never pushed to {prefix}: {', '.join(missing)}; run `python -m e2e.cluster images`")
    return pushed


def _kubeconfig_with(context: str) -> Path:
    candidates = [Path(entry) for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep) if entry]
    for path in candidates or [Path.home() / ".kube" / "config"]:
        content = yaml.safe_load(path.read_text()) if path.exists() else {}
        if any(entry["name"] == context for entry in content.get("contexts") or ()):
            return path
    raise ClusterError(f"no kubeconfig has a context {context!r}; `kubectl config get-contexts` lists what there is")


def _required(variable: str) -> str:
    if value := os.environ.get(variable):
        return value
    raise ClusterError(f"a named context needs {variable}; see e2e/cluster/target.py for what it means")
