"""What is done to the machine is undone, and touches nothing that belongs to somebody else."""

from pathlib import Path

import pytest

from e2e.cluster import cleanup, network, ports, preflight
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.settings import POD_RANGE, SERVICE_RANGE

_SAVED = """\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:DOCKER - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-NPX46M4PTMTKRN6Y
COMMIT
"""


def test_only_kubernetes_rules_leave_the_packet_filter():
    kept = cleanup.without_kubernetes(_SAVED)
    assert "KUBE" not in kept
    assert kept.count("DOCKER") == 2
    assert kept.endswith("COMMIT\n")


def test_inner_mounts_go_first_and_neighbours_stay():
    mounts = (
        "a /state rw 0 0\na /state/pods/x rw 0 0\na /state/pods/x/with\\040space rw 0 0\na /state-of-another rw 0 0\n"
    )
    assert cleanup.mounts_below(Path("/state"), mounts) == ["/state/pods/x/with space", "/state/pods/x", "/state"]


@pytest.mark.parametrize(
    ("release", "expected"),
    [("ID=debian\n", True), ('ID=ubuntu\nID_LIKE="debian"\n', True), ("ID=fedora\n", False), ("", False)],
)
def test_debian_and_its_children_are_recognised(tmp_path, release, expected):
    (tmp_path / "os-release").write_text(release)
    assert preflight.is_debian(tmp_path / "os-release") is expected


@pytest.mark.parametrize("taken", [str(POD_RANGE), "10.96.3.0/24", "10.0.0.0/8"])
def test_a_range_that_is_routed_elsewhere_is_named(monkeypatch, taken):
    monkeypatch.setattr(
        network.shell, "run", lambda _: f'[{{"dst": "default", "dev": "eth0"}}, {{"dst": "{taken}", "dev": "vpn"}}]'
    )
    assert "vpn" in network.conflict()


def test_our_own_routes_are_no_conflict(monkeypatch):
    monkeypatch.setattr(network.shell, "run", lambda _: f'[{{"dst": "{SERVICE_RANGE}", "dev": "mw0"}}]')
    assert network.conflict() is None


@pytest.mark.parametrize("has_node", [True, False])
def test_the_api_server_listens_only_where_it_is_told(tmp_path, has_node):
    plane = ControlPlane(
        program=Path,
        pki=tmp_path,
        config=tmp_path,
        data=tmp_path,
        api=ports.Address("127.0.0.1", 1),
        etcd_client_port=2,
        etcd_peer_port=3,
        has_node=has_node,
    )
    server = plane.api_server()
    assert "--bind-address=127.0.0.1" in server.argv
    assert server.listens == (("127.0.0.1", 1),)
    assert ("--kubelet-preferred-address-types=InternalIP" in server.argv) is has_node
