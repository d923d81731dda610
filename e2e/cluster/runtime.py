"""containerd with a root, a state and a socket of its own: a system containerd is left alone."""

import io
import json
import tarfile
import tempfile
from pathlib import Path

from e2e.cluster import binaries, cgroups, files, members, progress, shell
from e2e.cluster.members import Member
from e2e.cluster.processes import Component
from e2e.cluster.settings import BRIDGE, POD_RANGE, REGISTRY

STATE = members.FIRST_STATE
SOCKET = STATE.with_suffix(".sock")
_CNI_PLUGINS = Path("/usr/lib/cni")


def ctr(socket: Path) -> tuple[str, ...]:
    """The beginning of a command to the containerd of a socket."""
    return ("ctr", "--address", str(socket), "--namespace", "k8s.io")


_CTR = ctr(SOCKET)


def component(member: Member, *, pods: bool = True) -> Component:
    """containerd of a node; without `pods` it knows nothing of them, and only keeps images and containers."""
    config = files.write(member.config / "containerd.toml", _containerd_toml(member, pods=pods))
    files.write_json(member.config / "cni/10-bridge.conflist", cni(member))
    files.write(member.registries / REGISTRY / "hosts.toml", _hosts_toml())
    argv = ("/usr/bin/containerd", "--config", str(config))
    return Component(
        member.containerd_name,
        cgroups.joining(member.daemons, argv) if member.cgroup else argv,
        reads=(config,),
        ready=lambda: shell.attempt([*ctr(member.socket), "version"]).returncode == 0,
    )


def program_image(program: str) -> str:
    """The name of the image that holds a program of ours and nothing else; its tag is the hash of its source."""
    return f"localhost/modelwright/{program}:{binaries.path(program).parent.name.rpartition('-')[2]}"


def pause_image() -> str:
    """The sandbox image's name."""
    return program_image("pause")


def has_image(reference: str) -> bool:
    """Whether an image was already pulled or imported."""
    return reference in images()


def images() -> dict[str, str]:
    """The names of all images that containerd has, and the digests that they stand for.

    An image has several names (its tag, its digest, its id), and stays as long as it has one.
    """
    rows = (line.split() for line in shell.run([*_CTR, "images", "ls"]).splitlines()[1:])
    return {row[0]: row[2] for row in rows}


def remove_image(reference: str) -> None:
    """Forget an image; its layers go as soon as no other image and no container uses them."""
    shell.run([*_CTR, "images", "rm", reference])


def ensure_pause_image() -> None:
    """Import the sandbox image, if it is not there yet."""
    ensure_program_image("pause")


def ensure_program_image(program: str) -> str:
    """Import an image of one static program, for which no registry is needed; return its name."""
    reference = program_image(program)
    if not has_image(reference):
        with progress.step(f"importing {reference}"), tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            archive.write(_archive(reference, program, binaries.path(program).read_bytes()))
            archive.flush()
            shell.run([*_CTR, "images", "import", archive.name])
    return reference


def remove_containers(socket: Path = SOCKET) -> None:
    """Kill whatever still runs in pods, and forget every container; images stay."""
    command = ctr(socket)
    for task in shell.run([*command, "tasks", "ls", "-q"]).split():
        shell.attempt([*command, "tasks", "rm", "--force", task])
    for container in containers(socket):
        shell.attempt([*command, "containers", "rm", container])


def containers(socket: Path = SOCKET) -> list[str]:
    """The ids of all containers that a containerd knows."""
    return shell.run([*ctr(socket), "containers", "ls", "-q"]).split()


def _containerd_toml(member: Member, *, pods: bool) -> str:
    more = "" if pods else ', "io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{member.containerd}"
state = "{member.state}"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"{more}]

[grpc]
  address = "{member.socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image()}"
  # Without CAP_SYS_RESOURCE every pod would otherwise fail with "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  # Namespaces are then ours to unmount, and not mixed with those of other runtimes in /run/netns.
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_CNI_PLUGINS}"
    conf_dir = "{member.config / "cni"}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    # A training image has gigabytes: keep it once, not once compressed and once unpacked.
    discard_unpacked_layers = true

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
{_runc_options(member)}
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{member.registries}"
"""


def _runc_options(member: Member) -> str:
    if not member.cgroup:
        return ""
    # What runc remembers would stay behind, among that of everybody's, when the node is lost.
    return f"""\

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{member.state / "runc"}"
"""


def _hosts_toml() -> str:
    return f"""\
server = "http://{REGISTRY}"

[host."http://{REGISTRY}"]
  capabilities = ["pull", "resolve"]
"""


def cni(member: Member) -> dict[str, object]:
    """How the pods of a node get to the bridge, and their addresses."""
    subnet = {"subnet": str(POD_RANGE), "rangeStart": member.pods[0], "rangeEnd": member.pods[1]}
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        # No masquerading: a pod's packets have nowhere to go outside, so they need no outside address.
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": [[subnet]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(member.cni),
        },
    }
    return {"cniVersion": "0.4.0", "name": "modelwright", "plugins": [bridge]}


def _archive(reference: str, name: str, program: bytes) -> bytes:
    """An image with a single file in the format of `docker save`, which containerd imports."""
    layer = _tar({name: program}, mode=0o755)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{files.sha256(layer)}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    return _tar(
        {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(config).encode(), "layer.tar": layer}
    )


def _tar(members: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
