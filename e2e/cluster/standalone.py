"""Servers for tests: an S3 gateway, and a control plane without a node (etcd, an API server, the built-in controllers).

Ready in a few seconds, on free ports, in a temporary folder, gone at the end. Where setup-envtest has left its
binaries (KUBEBUILDER_ASSETS) or a kube-apiserver is on PATH, those are used and nothing is built.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from e2e.cluster import binaries, health, kubeconfig, pki, ports, storage
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Component, Supervisor

_LOOPBACK = "127.0.0.1"


@contextmanager
def control_plane(*, controller_manager: bool = False, pod_groups: bool = False) -> Iterator[Path]:
    """Run a control plane, with PodGroups if wanted, and yield the path of its administrator's kubeconfig."""
    with tempfile.TemporaryDirectory(prefix="modelwright-control-plane-") as folder:
        root = Path(folder)
        plane, manager_port = _describe(root, controller_manager=controller_manager, pod_groups=pod_groups)
        admin = _credentials(root, plane)
        components = [plane.etcd(), plane.api_server()]
        if controller_manager:
            manager = plane.controller_manager(manager_port)
            components.append(replace(manager, ready=lambda: _has_service_account(plane)))
        with _running(root, components):
            yield admin


@contextmanager
def s3_server(account: storage.Credentials, bucket: str) -> Iterator[str]:
    """Run an S3 server with one empty bucket and yield its URL."""
    with tempfile.TemporaryDirectory(prefix="modelwright-s3-") as folder:
        root = Path(folder)
        buckets = root / "buckets"
        (buckets / bucket).mkdir(parents=True)
        (port,) = ports.free(1)
        address = ports.Address(_LOOPBACK, port)
        with _running(root, (storage.gateway(find("versitygw"), address, buckets, account),)):
            yield f"http://{address}"


@contextmanager
def _running(root: Path, components: Sequence[Component]) -> Iterator[None]:
    """Run components, one after the other, until the end of the block.

    They die with the thread that started them, so that a killed test run leaves nothing behind.
    """
    supervisor = Supervisor(root / "pids", root / "logs")
    try:
        for component in components:
            supervisor.launch(_bound_to_parent(component))
            supervisor.await_ready(component)
        yield
    finally:
        for component in reversed(components):
            supervisor.stop(component.name, grace=0)  # nothing of it is worth a goodbye


def find(program: str) -> Path:
    """The program of setup-envtest, else of PATH, else our own build."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (path := Path(assets) / program).exists():
        return path
    if on_path := shutil.which(program):
        return Path(on_path)
    if program == "etcd":
        raise ClusterError(
            "etcd is not installed: `apt-get install etcd-server`, or setup-envtest and KUBEBUILDER_ASSETS"
        )
    return binaries.path(program)


def _describe(root: Path, *, controller_manager: bool, pod_groups: bool) -> tuple[ControlPlane, int]:
    api, etcd_client, etcd_peer, manager = ports.free(4)
    plane = ControlPlane(
        program=find,
        pki=root / "pki",
        config=root / "config",
        data=root / "etcd",
        api=ports.Address(_LOOPBACK, api),
        etcd_client_port=etcd_client,
        etcd_peer_port=etcd_peer,
        service_accounts=controller_manager,
        has_node=False,
        pod_groups=pod_groups,
    )
    return plane, manager


def _credentials(root: Path, plane: ControlPlane) -> Path:
    pki.ensure(plane.pki, (pki.api_server(), pki.ADMIN, pki.CONTROLLER_MANAGER))
    for identity in (pki.ADMIN, pki.CONTROLLER_MANAGER):
        path = plane.pki / f"{identity.file}.kubeconfig"
        kubeconfig.write(path, server=plane.url, pki=plane.pki, identity=identity.file)
    return (plane.pki / f"{pki.ADMIN.file}.kubeconfig").rename(root / "kubeconfig")


def _has_service_account(plane: ControlPlane) -> bool:
    """The last thing that a namespace needs before pods may be made in it."""
    return health.answers(f"{plane.url}/api/v1/namespaces/default/serviceaccounts/default", plane.pki)


def _bound_to_parent(component: Component) -> Component:
    setpriv = shutil.which("setpriv")
    if setpriv is None:  # not Linux: a killed run leaves its processes, everything else works
        return component
    return replace(component, argv=(setpriv, "--pdeathsig", "KILL", "--", *component.argv))
