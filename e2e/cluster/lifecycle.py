"""Bringing the local cluster up, taking it down, and saying how it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from e2e.cluster import (
    binaries,
    cgroups,
    cleanup,
    dns,
    kubeconfig,
    locks,
    members,
    network,
    node,
    packages,
    paths,
    pki,
    preflight,
    progress,
    registry,
    runtime,
    second_node,
    smoke,
    storage,
)
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.paths import Layout
from e2e.cluster.ports import Address
from e2e.cluster.processes import Component, Supervisor
from e2e.cluster.settings import (
    API_PORT,
    API_SERVICE_ADDRESS,
    DEBIAN_PACKAGES,
    ETCD_CLIENT_PORT,
    ETCD_PEER_PORT,
    NODE_ADDRESS,
    NODE_NAME,
)

_CLIENTS = (pki.CONTROLLER_MANAGER, pki.SCHEDULER, pki.PROXY, pki.DNS, pki.node(NODE_NAME, NODE_ADDRESS))
# What keeps others alive starts first and stops last.
_NAMES = (
    "etcd",
    "containerd",
    "registry",
    "versitygw",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "coredns",
    "kube-proxy",
    "kubelet",
)
# The API server would wait for its watchers, whom nobody asks any more.
_GRACE_SECONDS = 3
# How often a component may leave a question without an answer.
_PATIENCE = 3


class Condition(NamedTuple):
    """How one component is."""

    name: str
    pid: int | None
    up: bool
    log: Path


def supervisor(layout: Layout) -> Supervisor:
    """The record of this cluster's processes."""
    return Supervisor(layout.pids, layout.logs)


def up(layout: Layout) -> None:
    """Bring the cluster up, or repair what is not as it should be; a cluster that is well is left alone."""
    preflight.require()
    with locks.cluster():
        _up(layout)


def _up(layout: Layout) -> None:
    packages.ensure(DEBIAN_PACKAGES)
    binaries.build(binaries.CLUSTER_PROGRAMS)
    control_plane = _control_plane(layout)
    _ensure_credentials(layout, control_plane)
    changed = network.ensure()
    changed |= _start(layout, _foundation(layout, control_plane))
    kubectl = Kubectl(layout.kubeconfig)
    kubectl.apply([*dns.manifests(), *storage.manifests()])
    runtime.ensure_pause_image()
    changed |= _start(layout, _workers(layout, control_plane))
    if changed or not smoke.node_is_ready(kubectl):
        with progress.step("waiting for the node"):
            smoke.await_node(kubectl)
        with progress.step("running a pod that dials Services by name"):
            smoke.check(kubectl)
    progress.say("the cluster is up")


def down(layout: Layout, *, purge: bool = False) -> None:
    """Stop everything and remove every trace, but for caches; safe on a cluster that is down or half down."""
    with locks.cluster():
        _down(layout, purge=purge)


def _down(layout: Layout, *, purge: bool) -> None:
    second_node.clear(layout)
    processes = supervisor(layout)
    others = [name for name in processes.names() if name not in _NAMES]
    for name in (*others, *reversed(_NAMES)):
        if name == "containerd":
            _remove_containers(layout)
        if processes.stop(name, _GRACE_SECONDS):
            progress.say(f"stopped {name}")
    cleanup.kube_proxy_rules(layout)
    network.remove()
    cleanup.unmount([layout.root, paths.RUN])
    cleanup.remove_log_links(layout.logs)
    cleanup.remove([*([layout.root] if purge else layout.of_one_life()), paths.RUN])
    cgroups.remove("kubepods")
    progress.say("the cluster is down" + (", its images are gone too" if purge else ""))


def status(layout: Layout) -> list[Condition]:
    """How every component is, in the order in which they start."""
    processes = supervisor(layout)
    return [_condition(processes, name) for name in _NAMES]


def second_node_status(layout: Layout) -> list[Condition]:
    """How the components of the second node are; none where there is no second node."""
    processes = supervisor(layout)
    return [_condition(processes, name) for name in second_node.names(layout) if processes.find(name)]


def _condition(processes: Supervisor, name: str) -> Condition:
    record = processes.find(name)
    return Condition(name, record.pid if record else None, processes.alive(name), processes.log(name))


def _control_plane(layout: Layout) -> ControlPlane:
    return ControlPlane(
        program=lambda name: Path("/usr/bin/etcd") if name == "etcd" else binaries.path(name),
        pki=layout.pki,
        config=layout.config,
        data=layout.etcd,
        # On the bridge, not on loopback: pods have to reach it as the Service `kubernetes`.
        api=Address(NODE_ADDRESS, API_PORT),
        etcd_client_port=ETCD_CLIENT_PORT,
        etcd_peer_port=ETCD_PEER_PORT,
        # Gangs are placed together here, and pod by pod on the control planes of tests: both ways are tried.
        pod_groups=True,
    )


def _ensure_credentials(layout: Layout, control_plane: ControlPlane) -> None:
    serving = pki.api_server(NODE_ADDRESS, API_SERVICE_ADDRESS)
    pki.ensure(layout.pki, (serving, pki.API_SERVER_AS_CLIENT, pki.ADMIN, *_CLIENTS))
    for identity in _CLIENTS:
        path = layout.pki / f"{identity.file}.kubeconfig"
        kubeconfig.write(path, server=control_plane.url, pki=layout.pki, identity=identity.file)
    kubeconfig.write(layout.kubeconfig, server=control_plane.url, pki=layout.pki, identity=pki.ADMIN.file)


def _foundation(layout: Layout, control_plane: ControlPlane) -> list[Component]:
    services = [runtime.component(members.first(layout)), registry.component(layout), storage.component(layout)]
    return [control_plane.etcd(), *services, control_plane.api_server()]


def _workers(layout: Layout, control_plane: ControlPlane) -> list[Component]:
    controllers = [control_plane.controller_manager(), control_plane.scheduler()]
    return [*controllers, dns.component(layout), node.proxy(layout), node.kubelet(members.first(layout))]


def _start(layout: Layout, components: Sequence[Component]) -> bool:
    """Start what does not run, all at once, and wait for all; True says that something was started."""
    processes = supervisor(layout)
    started = [component.name for component in components if _revive(processes, component)]
    if not started:
        return False
    with progress.step(f"starting {', '.join(started)}"):
        for component in components:
            processes.await_ready(component)
    return True


def _revive(processes: Supervisor, component: Component) -> bool:
    """Start a component that does not run, and again one that runs but does not answer; True: it was started."""
    if processes.launch(component):
        return True
    if any(component.ready() for _ in range(_PATIENCE)):
        return False
    processes.stop(component.name, grace=1)
    return processes.launch(component)


def _remove_containers(layout: Layout) -> None:
    """Containers outlive containerd: if it died, it has to come back for a moment to end them."""
    if not runtime.STATE.exists():
        return
    if not supervisor(layout).alive("containerd"):
        _start(layout, [runtime.component(members.first(layout))])
    with progress.step("removing pods"):
        runtime.remove_containers()
