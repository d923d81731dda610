"""Two nodes on one machine share nothing that either would tidy up, and the second one leaves nothing behind."""

import dataclasses
import ipaddress
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from e2e.cluster import cgroups, clone, members, network, node, pki, runtime, second_node, unplug
from e2e.cluster.cli import main
from e2e.cluster.members import Member
from e2e.cluster.paths import Layout
from e2e.cluster.settings import API_SERVICE_ADDRESS, POD_RANGE


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Member, Member]:
    layout = Layout(tmp_path)
    return members.first(layout), members.second(layout)


def folders(member: Member) -> list[Path]:
    return [member.containerd, member.state, member.kubelet, member.cni, member.config, member.pod_logs]


def test_no_folder_of_a_node_lies_in_one_of_the_other(nodes: tuple[Member, Member]) -> None:
    first, second = nodes
    for mine in folders(first):
        for other in folders(second):
            assert not mine.is_relative_to(other)
            assert not other.is_relative_to(mine)
    assert first.socket != second.socket


def test_a_kubelet_looks_into_the_cgroups_of_its_own_pods_only(nodes: tuple[Member, Member]) -> None:
    first, second = map(node.kubelet_configuration, nodes)
    assert "cgroupRoot" not in first
    assert second["cgroupRoot"] == f"/{nodes[1].cgroup}"
    shared = {name for name in first if first[name] == second.get(name)}
    assert not shared & {"address", "containerRuntimeEndpoint", "podLogsDir", "tlsCertFile", "tlsPrivateKeyFile"}
    assert "registerWithTaints" not in first
    assert second["registerWithTaints"] == [{"key": "modelwright.dev/second-node", "effect": "NoSchedule"}]


def test_no_address_is_given_to_a_pod_of_either_node_twice_nor_that_of_a_node(nodes: tuple[Member, Member]) -> None:
    taken = []
    for member in nodes:
        begin, end = (int(ipaddress.ip_address(address)) for address in member.pods)
        taken.append((begin, end))
        assert ipaddress.ip_address(begin) in POD_RANGE
        assert ipaddress.ip_address(end) in POD_RANGE
        plugin = runtime.cni(member)["plugins"][0]  # type: ignore[index]
        ((subnet,),) = plugin["ipam"]["ranges"]
        assert (subnet["rangeStart"], subnet["rangeEnd"]) == member.pods
        assert plugin["bridge"] == network.BRIDGE
    (_, end), (begin, _) = sorted(taken)
    assert end < begin
    for member in nodes:
        own = int(ipaddress.ip_address(member.address))
        assert not any(low <= own <= high for low, high in taken)
    assert ipaddress.ip_address(API_SERVICE_ADDRESS) not in POD_RANGE


def test_what_a_lost_node_leaves_in_folders_of_all_runtimes_is_found_by_its_containers(
    nodes: tuple[Member, Member], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = dataclasses.replace(nodes[1], state=tmp_path / "second")
    networks, shim = tmp_path / "results", tmp_path / "s/5266"
    networks.mkdir()
    for name in ("modelwright-0a1b-eth0", "cni-loopback-0a1b-lo", "modelwright-7c7c-eth0"):
        (networks / name).touch()
    bundles = member.state / "io.containerd.runtime.v2.task/k8s.io"
    (bundles / "0a1b").mkdir(parents=True)
    (bundles / "0a1b/address").write_text(f"unix://{shim}")
    monkeypatch.setattr(second_node, "_NETWORKS", networks)
    assert set(second_node.left_elsewhere(member)) == {
        networks / "modelwright-0a1b-eth0",
        networks / "cni-loopback-0a1b-lo",
        shim,
        tmp_path / "second.sock",
        tmp_path / "second.sock.ttrpc",
    }


def written(member: Member, *, pods: bool) -> str:
    (config,) = runtime.component(member, pods=pods).reads
    return config.read_text()


def test_containerd_first_forgets_the_pods_of_the_first_node_before_it_knows_what_a_pod_is(
    nodes: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "pause_image", lambda: "localhost/modelwright/pause:0")
    disabled = {}
    for pods in (True, False):
        text = written(nodes[1], pods=pods)
        disabled[pods] = text[: text.index("[grpc]")]
        assert f'root = "{nodes[1].containerd}"' in text
    assert '"io.containerd.grpc.v1.cri"' not in disabled[True]
    assert '"io.containerd.grpc.v1.cri"' in disabled[False]


def test_what_runc_remembers_lies_with_the_state_of_the_second_node(
    nodes: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "pause_image", lambda: "localhost/modelwright/pause:0")
    first, second = (written(member, pods=True) for member in nodes)
    assert f'Root = "{nodes[1].state / "runc"}"' in second
    assert "Root =" not in first


@pytest.fixture(params=["v1", "v2"])
def hierarchy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that looks like the cgroups of a machine."""
    root = tmp_path / "cgroup"
    for name in ("freezer", "memory", "cpuacct") if request.param == "v1" else ():
        (root / name).mkdir(parents=True)
    if request.param == "v1":
        (root / "cpu").symlink_to("cpuacct")
    else:
        root.mkdir()
        (root / "cgroup.controllers").touch()
    return root


def test_a_cgroup_is_made_and_removed_in_every_hierarchy(hierarchy: Path) -> None:
    before = sorted(hierarchy.rglob("*"))
    cgroups.make("second/daemons", hierarchy)
    tops = cgroups.hierarchies(hierarchy)
    assert all((top / "second/daemons").is_dir() for top in tops)
    assert cgroups.remove("second", hierarchy)
    assert sorted(hierarchy.rglob("*")) == before


def test_a_cgroup_in_which_somebody_runs_stays(hierarchy: Path) -> None:
    cgroups.make("second/pod/container", hierarchy)
    top = cgroups.hierarchies(hierarchy)[0]
    (top / "second/pod/container/cgroup.procs").write_text("17\n")
    assert not cgroups.remove("second", hierarchy)
    assert (top / "second/pod/container").is_dir()


def test_processes_are_those_of_all_cgroups_below_in_all_hierarchies_and_of_no_other(hierarchy: Path) -> None:
    for name, text in (("second", ""), ("second/daemons", "7\n"), ("second/a/b", "8\n9\n"), ("seconds", "1\n")):
        cgroups.make(name, hierarchy)
        for top in cgroups.hierarchies(hierarchy):
            (top / name / "cgroup.procs").write_text(text)
    assert cgroups.processes("second", hierarchy) == {7, 8, 9}
    assert cgroups.processes("third", hierarchy) == set()


def test_a_daemon_is_in_its_cgroup_before_it_begins_and_keeps_its_process_id(hierarchy: Path) -> None:
    cgroups.make("second/daemons", hierarchy)
    child = subprocess.Popen(cgroups.joining("second/daemons", ("true",), hierarchy))
    assert child.wait() == 0
    (joined,) = [path for path in hierarchy.rglob("cgroup.procs") if path.read_text()]
    assert joined.read_text().strip() == str(child.pid)
    assert joined.parent.name == "daemons"


_ROOT = Path("/state/cluster/containerd/snapshots")
_OVERLAY = (
    "overlay /run/rootfs overlay rw,relatime,lowerdir={0}/1/fs:{0}/5/fs,upperdir={0}/{1}/fs,workdir={0}/{1}/work 0 0\n"
)


def test_only_what_containers_write_into_is_not_shared() -> None:
    mounts = _OVERLAY.format(_ROOT, 41) + _OVERLAY.format(_ROOT, 42) + _OVERLAY.format("/var/lib/other", 1)
    assert clone.in_use(_ROOT, mounts + "tmpfs /run tmpfs rw,upperdir=/no 0 0\n") == {"41", "42"}


def test_the_links_of_a_nodes_pods_are_found_by_their_other_ends() -> None:
    bridge = [
        {"ifname": "veth0a", "ifindex": 11},
        {"ifname": "veth0b", "ifindex": 12},
        {"ifname": "veth0c"} | {"ifindex": 13},
    ]
    inside = [{"ifname": "eth0", "ifindex": 2, "link_index": 13}, {"ifname": "eth0", "ifindex": 2, "link_index": 11}]
    assert unplug.ports_of(bridge, inside) == ["veth0a", "veth0c"]
    assert unplug.ports_of(bridge, [{"ifname": "eth0", "ifindex": 2}]) == []


def test_a_node_that_joins_later_is_signed_by_the_authority_that_is_there(nodes: tuple[Member, Member]) -> None:
    first, second = nodes
    pki.ensure(first.pki, [pki.node(first.name, first.address)])
    authority = (first.pki / "ca.crt").read_bytes()
    pki.join(first.pki, pki.node(second.name, second.address, second.kubelet_name))
    assert (first.pki / "ca.crt").read_bytes() == authority
    joined = x509.load_pem_x509_certificate((first.pki / f"{second.kubelet_name}.crt").read_bytes())
    joined.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    assert "CN=system:node:modelwright-second" in joined.subject.rfc4514_string()


@pytest.mark.parametrize("command", ["up", "lose", "remove"])
def test_every_command_says_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["second-node", command, "--help"])
    assert f"second-node {command}" in capsys.readouterr().out
