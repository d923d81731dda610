"""A second node for a while, that can be lost like a machine whose plug is pulled.

It has a kubelet, a containerd, cgroups and files of its own, on the bridge of the first. Only pods that tolerate its
taint come to it, and those that select its label (both `modelwright.dev/second-node`) run nowhere else.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from e2e.cluster import (
    cgroups,
    cleanup,
    clone,
    kubeconfig,
    locks,
    members,
    network,
    node,
    paths,
    pki,
    progress,
    runtime,
    shell,
    smoke,
    unplug,
)
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.members import Member
from e2e.cluster.paths import Layout
from e2e.cluster.ports import Address
from e2e.cluster.processes import Component, Supervisor
from e2e.cluster.settings import API_PORT, NODE_ADDRESS

# What libcni remembers of each pod's networks, whoever asked it.
_NETWORKS = Path("/var/lib/cni/results")
_BUNDLES = "io.containerd.runtime.v2.task/k8s.io"
_NEEDED = ("containerd", "kube-apiserver", "kube-controller-manager", "kubelet")
_CGROUP_SECONDS = 10.0


def reserved() -> AbstractContextManager[None]:
    """Hold the second node: there is only one, and whoever has it may lose it."""
    return locks.exclusive(paths.state_root() / "second-node.lock")


@contextmanager
def borrowed(layout: Layout) -> Iterator[Member]:
    """Bring it up, after whoever has it now, and remove it in the end, lost or not."""
    with reserved():
        try:
            up(layout)
            yield members.second(layout)
        finally:
            remove(layout)


def up(layout: Layout) -> None:
    """Bring it up anew. One that is there, or half there, goes first, with its pods."""
    with locks.cluster():
        _supervisor(layout).require(*_NEEDED)
        with progress.step("bringing the second node up"):
            _remove(layout)
            _up(layout)


def lose(layout: Layout) -> float:
    """Have it vanish, and return when, by the wall clock.

    The network of its pods ends first; then all its processes are killed. The Node object stays, and the cluster finds
    out by itself. Raises ClusterError where there is no second node.
    """
    member = members.second(layout)
    with locks.cluster():
        if not cgroups.processes(member.cgroup):
            raise ClusterError("there is no second node to be lost; run `python -m e2e.cluster second-node up` first")
        at = time.time()
        unplug.unplug(member)
        cgroups.kill(member.cgroup)
    progress.say("the second node is lost")
    return at


def remove(layout: Layout) -> None:
    """Remove every trace of it, in the cluster and on the machine, whether it runs, was lost, or never came up."""
    with locks.cluster(), progress.step("removing the second node"):
        _remove(layout)


def clear(layout: Layout) -> None:
    """Remove every trace on the machine alone. To be called by whoever has the cluster."""
    member = members.second(layout)
    _stop(layout, member)
    elsewhere = [*left_elsewhere(member), *layout.pki.glob(f"{member.kubelet_name}.*")]
    unplug.remove(member)
    cleanup.unmount([layout.second_node, member.state])
    cleanup.remove_log_links(member.pod_logs)
    cleanup.remove(elsewhere)
    # A hundred thousand names: in one process, which never leaves the disk that they are on.
    shell.run(["rm", "--recursive", "--force", "--one-file-system", "--", layout.second_node, member.state])
    _remove_cgroups(member)


def names(layout: Layout) -> tuple[str, ...]:
    """What its processes are called."""
    member = members.second(layout)
    return member.containerd_name, member.kubelet_name


def _up(layout: Layout) -> None:
    member = members.second(layout)
    pki.join(layout.pki, pki.node(member.name, member.address, member.kubelet_name))
    credentials = layout.pki / f"{member.kubelet_name}.kubeconfig"
    server = f"https://{Address(NODE_ADDRESS, API_PORT)}"
    kubeconfig.write(credentials, server=server, pki=layout.pki, identity=member.kubelet_name)
    network.add_address(member.address)
    cgroups.make(member.daemons)
    _copy_images(layout, member)
    _forget_containers(layout, member)
    for component in (runtime.component(member), node.kubelet(member)):
        _start(layout, component)
    smoke.await_node(Kubectl(layout.kubeconfig), member.name)


def _copy_images(layout: Layout, member: Member) -> None:
    first = _supervisor(layout).find(members.first(layout).containerd_name)
    assert first is not None, "it was alive a moment ago"
    # An image that is being unpacked would be copied in part.
    with locks.exclusive(paths.state_root() / "images.lock"):
        clone.clone(layout.containerd, member.containerd, first.pid)


def _forget_containers(layout: Layout, member: Member) -> None:
    """Remove the containers that came with the databases: they are the first node's, and so are their networks.

    Before containerd knows what a pod is: it would take their pods for its own, and the kubelet would have it end them.
    """
    _start(layout, runtime.component(member, pods=False))
    runtime.remove_containers(member.socket)
    if left := runtime.containers(member.socket):
        raise ClusterError(f"the containers of the first node do not go from the second: {', '.join(left)}")


def _start(layout: Layout, component: Component) -> None:
    processes = _supervisor(layout)
    processes.launch(component)
    processes.await_ready(component)


def _stop(layout: Layout, member: Member) -> None:
    cgroups.kill(member.cgroup)
    processes = _supervisor(layout)
    for name in names(layout):
        processes.stop(name, grace=0)


def _remove(layout: Layout) -> None:
    member = members.second(layout)
    # First, or its kubelet would register it again.
    _stop(layout, member)
    kubectl = Kubectl(layout.kubeconfig)
    kubectl.attempt("delete", "node", member.name, "--ignore-not-found", "--wait=false")
    everywhere = ("--all-namespaces", f"--field-selector=spec.nodeName={member.name}")
    kubectl.attempt("delete", "pods", *everywhere, "--force", "--grace-period=0", "--wait=false")
    clear(layout)


def left_elsewhere(member: Member) -> list[Path]:
    """What lies in folders that all runtimes of the machine share, and where its own containerd listened."""
    found = {member.socket, member.socket.with_name(f"{member.socket.name}.ttrpc")}
    for bundle in (member.state / _BUNDLES).glob("*"):
        found.update(_NETWORKS.glob(f"*-{bundle.name}-*"))
        if (told := bundle / "address").exists():  # where its shim listened
            found.add(Path(told.read_text().removeprefix("unix://")))
    return sorted(found)


def _remove_cgroups(member: Member) -> None:
    deadline = time.monotonic() + _CGROUP_SECONDS
    while not cgroups.remove(member.cgroup):
        if time.monotonic() > deadline:
            raise ClusterError(f"the cgroup {member.cgroup} does not get empty")
        time.sleep(0.05)


def _supervisor(layout: Layout) -> Supervisor:
    return Supervisor(layout.pids, layout.logs)
