"""Where everything lives: two folders, both movable by an environment variable."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).resolve().parent / "tools"

# Sockets have to be short (108 bytes), whatever the state folder is called.
RUN = Path("/run/modelwright")


def cache_root() -> Path:
    """What is worth keeping between clones and clusters: built binaries and the base image."""
    return Path(os.environ.get("MODELWRIGHT_CACHE") or Path.home() / ".cache" / "modelwright").absolute()


def state_root() -> Path:
    """What belongs to this machine's cluster."""
    return Path(os.environ.get("MODELWRIGHT_STATE") or Path.home() / ".local" / "state" / "modelwright").absolute()


@dataclass(frozen=True)
class Layout:
    """The folders and files of one cluster."""

    root: Path

    @classmethod
    def default(cls) -> "Layout":
        """The layout of this machine's only cluster."""
        return cls(state_root() / "cluster")

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for people and for tests."""
        return self.root / "kubeconfig"

    @property
    def pids(self) -> Path:
        """One record for each running component."""
        return self.root / "pids"

    @property
    def logs(self) -> Path:
        """One log for each component, and the pods' logs."""
        return self.root / "logs"

    @property
    def pki(self) -> Path:
        """Certificates, keys and the components' kubeconfigs."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Configuration files written for the components."""
        return self.root / "config"

    @property
    def etcd(self) -> Path:
        """The API server's data: lives as long as the cluster."""
        return self.root / "etcd"

    @property
    def kubelet(self) -> Path:
        """The kubelet's root: pod volumes are mounted below."""
        return self.root / "kubelet"

    @property
    def cni(self) -> Path:
        """Addresses handed out to pods."""
        return self.root / "cni"

    @property
    def s3(self) -> Path:
        """Buckets and credentials of the S3 server."""
        return self.root / "s3"

    @property
    def containerd(self) -> Path:
        """Pulled images: kept by ``down`` because pulling them again takes minutes."""
        return self.root / "containerd"

    @property
    def registry(self) -> Path:
        """Pushed images: kept by ``down``."""
        return self.root / "registry"

    @property
    def buildah(self) -> Path:
        """Built images and the layers below them: kept by ``down``."""
        return self.root / "buildah"

    @property
    def second_node(self) -> Path:
        """All that the second node has; on the same disk as `containerd`, whose files it shares."""
        return self.root / "second-node"

    @property
    def images(self) -> Path:
        """The image references that the last ``images`` pushed, as JSON."""
        return self.root / "images.json"

    def of_one_life(self) -> Iterator[Path]:
        """What ends with the cluster; logs of components stay, for whoever asks why it ended."""
        yield from (self.kubeconfig, self.pids, self.pki, self.config, self.etcd, self.kubelet, self.cni, self.s3)
        yield self.logs / "pods"
