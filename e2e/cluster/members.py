"""The nodes that the cluster can have: where the runtime and the kubelet of each keep their things."""

from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import paths
from e2e.cluster.paths import Layout
from e2e.cluster.settings import (
    FIRST_PODS,
    NODE_ADDRESS,
    NODE_NAME,
    SECOND_NODE,
    SECOND_NODE_ADDRESS,
    SECOND_NODE_NAME,
    SECOND_PODS,
)

FIRST_STATE = paths.RUN / "containerd"


@dataclass(frozen=True)
class Member:
    """A node. Two of them share the bridge, the authority, the registry, and nothing else."""

    name: str
    address: str
    """On the bridge."""
    pods: tuple[str, str]
    """The first and the last address of its pods."""
    containerd: Path
    state: Path
    """Of containerd: what ends with the boot."""
    kubelet: Path
    cni: Path
    config: Path
    pod_logs: Path
    pki: Path
    registries: Path
    kubelet_name: str = "kubelet"
    """Of the process, of its log, of its certificate."""
    containerd_name: str = "containerd"
    cgroup: str = ""
    """The cgroup above those of its pods, and of all its processes; empty: the root."""
    taint: str = ""
    """And label."""

    @property
    def daemons(self) -> str:
        """The cgroup of kubelet and containerd, beside that of the pods."""
        return f"{self.cgroup}/daemons"

    @property
    def socket(self) -> Path:
        """Where containerd listens."""
        return self.state.with_suffix(".sock")


def first(layout: Layout) -> Member:
    """The node that is always there."""
    return Member(
        name=NODE_NAME,
        address=NODE_ADDRESS,
        pods=FIRST_PODS,
        containerd=layout.containerd,
        state=FIRST_STATE,
        kubelet=layout.kubelet,
        cni=layout.cni,
        config=layout.config,
        pod_logs=layout.logs / "pods",
        pki=layout.pki,
        registries=layout.config / "registries",
    )


def second(layout: Layout) -> Member:
    """The node that comes and goes."""
    folder = layout.second_node
    return Member(
        name=SECOND_NODE_NAME,
        address=SECOND_NODE_ADDRESS,
        pods=SECOND_PODS,
        containerd=folder / "containerd",
        state=paths.RUN / "second",
        kubelet=folder / "kubelet",
        cni=folder / "cni",
        config=folder / "config",
        pod_logs=folder / "pods",
        pki=layout.pki,
        registries=layout.config / "registries",
        kubelet_name="second-kubelet",
        containerd_name="second-containerd",
        cgroup=SECOND_NODE_NAME,
        taint=SECOND_NODE,
    )
