"""containerd with a root, a state and a socket of its own: a system containerd is left alone."""

import io
import json
import tarfile
import tempfile
from pathlib import Path

from e2e.cluster import binaries, files, paths, progress, shell
from e2e.cluster.paths import Layout
from e2e.cluster.processes import Component
from e2e.cluster.settings import BRIDGE, POD_RANGE, REGISTRY

SOCKET = paths.RUN / "containerd.sock"
STATE = paths.RUN / "containerd"
_CNI_PLUGINS = Path("/usr/lib/cni")
_CTR = ("ctr", "--address", str(SOCKET), "--namespace", "k8s.io")


def component(layout: Layout) -> Component:
    """containerd, configured for this cluster."""
    config = files.write(layout.config / "containerd.toml", _containerd_toml(layout))
    files.write_json(layout.config / "cni/10-bridge.conflist", _cni(layout))
    files.write(layout.config / "registries" / REGISTRY / "hosts.toml", _hosts_toml())
    return Component(
        "containerd",
        ("/usr/bin/containerd", "--config", str(config)),
        reads=(config,),
        ready=lambda: shell.attempt([*_CTR, "version"]).returncode == 0,
    )


def pause_image() -> str:
    """The sandbox image's name; its tag is the hash of its source."""
    return f"localhost/modelwright/pause:{binaries.path('pause').parent.name.removeprefix('pause-')}"


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
    """Import the sandbox image: one static program, so no registry is needed for a pod to start."""
    if has_image(pause_image()):
        return
    with progress.step("importing the sandbox image"), tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        archive.write(_archive(pause_image(), binaries.path("pause").read_bytes()))
        archive.flush()
        shell.run([*_CTR, "images", "import", archive.name])


def remove_containers() -> None:
    """Kill whatever still runs in pods, and forget every container; images stay."""
    for task in shell.run([*_CTR, "tasks", "ls", "-q"]).split():
        shell.attempt([*_CTR, "tasks", "rm", "--force", task])
    for container in shell.run([*_CTR, "containers", "ls", "-q"]).split():
        shell.attempt([*_CTR, "containers", "rm", container])


def _containerd_toml(layout: Layout) -> str:
    return f"""\
version = 2
root = "{layout.containerd}"
state = "{STATE}"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image()}"
  # Without CAP_SYS_RESOURCE every pod would otherwise fail with "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  # Namespaces are then ours to unmount, and not mixed with those of other runtimes in /run/netns.
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_CNI_PLUGINS}"
    conf_dir = "{layout.config / "cni"}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    # A training image has gigabytes: keep it once, not once compressed and once unpacked.
    discard_unpacked_layers = true

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{layout.config / "registries"}"
"""


def _hosts_toml() -> str:
    return f"""\
server = "http://{REGISTRY}"

[host."http://{REGISTRY}"]
  capabilities = ["pull", "resolve"]
"""


def _cni(layout: Layout) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        # No masquerading: a pod's packets have nowhere to go outside, so they need no outside address.
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(POD_RANGE)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(layout.cni),
        },
    }
    return {"cniVersion": "0.4.0", "name": "modelwright", "plugins": [bridge]}


def _archive(reference: str, program: bytes) -> bytes:
    """An image with a single file in the format of `docker save`, which containerd imports."""
    layer = _tar({"pause": program}, mode=0o755)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
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
