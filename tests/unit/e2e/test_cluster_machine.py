"""What is done to the machine is undone, and touches nothing that belongs to somebody else."""

from pathlib import Path

import pytest

from e2e.cluster import binaries, buildah, cleanup, network, packages, ports, preflight, shell
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError
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


def _control_plane(tmp_path, **options):
    return ControlPlane(
        program=Path,
        pki=tmp_path,
        config=tmp_path,
        data=tmp_path,
        api=ports.Address("127.0.0.1", 1),
        etcd_client_port=2,
        etcd_peer_port=3,
        **options,
    )


@pytest.mark.parametrize("pod_groups", [True, False])
def test_alpha_features_are_on_only_where_they_are_asked_for(tmp_path, pod_groups):
    plane = _control_plane(tmp_path, pod_groups=pod_groups)
    for component in (plane.api_server(), plane.controller_manager(), plane.scheduler()):
        gates = [option for option in component.argv if option.startswith("--feature-gates=")]
        assert len(gates) == pod_groups, component.name


@pytest.mark.parametrize("has_node", [True, False])
def test_the_api_server_listens_only_where_it_is_told(tmp_path, has_node):
    server = _control_plane(tmp_path, has_node=has_node).api_server()
    assert "--bind-address=127.0.0.1" in server.argv
    assert server.listens == (("127.0.0.1", 1),)
    assert ("--kubelet-preferred-address-types=InternalIP" in server.argv) is has_node


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("VERSION_CODENAME=bookworm\n", "deb host"),
        ("VERSION_CODENAME=noble\n", "deb debootstrap"),
        ("", "deb debootstrap"),
    ],
)
def test_the_base_image_takes_packages_from_where_a_host_of_its_own_release_does(tmp_path, release, expected):
    root, host = tmp_path / "root", tmp_path / "host"
    for folder, content in ((root, "deb debootstrap"), (host, "deb host")):
        (folder / "etc/apt").mkdir(parents=True)
        (folder / "etc/apt/sources.list").write_text(content)
    (host / "etc/os-release").write_text(f"ID=debian\n{release}")
    buildah.use_packages_of_host(root, host)
    assert (root / "etc/apt/sources.list").read_text() == expected


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """An apt that finds a package only after its index was renewed; the words it was called with."""
    monkeypatch.setenv("MODELWRIGHT_STATE", str(tmp_path))
    monkeypatch.setattr(packages, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(packages, "missing", list)
    monkeypatch.setattr(packages, "_known", lambda _: True)
    called = []

    def stream(argv, log, *, environment):
        (word,) = {"install", "update"} & set(argv)
        called.append(word)
        if word == "install" and "update" not in called:
            raise ClusterError("404 Not Found")

    monkeypatch.setattr(packages.shell, "stream", stream)
    return called


def test_an_index_that_is_too_old_is_renewed_once(apt, tmp_path):
    packages.ensure(["runc"])
    assert apt == ["install", "update", "install"]
    assert not (tmp_path / "policy-rc.d").exists()


def test_what_fetches_many_files_is_tried_again_where_one_did_not_come():
    answers = iter([ClusterError("502 Bad Gateway"), "here"])

    def fetch():
        if isinstance(answer := next(answers), ClusterError):
            raise answer
        return answer

    assert shell.persistently(fetch) == "here"
    with pytest.raises(ClusterError, match="always"):
        shell.persistently(lambda: shell.run(["sh", "-c", "echo always >&2; exit 1"]))


@pytest.mark.parametrize(
    ("answer", "fits"), [("go1.26.8", True), ("devel go1.27-a1b2c3", True), ("go1.25.1", False), ("", False)]
)
def test_a_go_that_is_too_old_is_named_before_anything_is_built(tmp_path, monkeypatch, answer, fits):
    program = tmp_path / "go"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if fits:
        binaries.require_go()
    else:
        with pytest.raises(ClusterError, match=rf"Go 1\.26 or newer.*'{answer}'"):
            binaries.require_go()
