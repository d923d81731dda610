"""Kubernetes and its companions, built by the ordinary Go client from pinned modules.

The outputs are kept under a name that holds the hash of everything that decides them, so that a second
clone on the same machine (or a CI cache) builds nothing.
"""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import locks, paths, progress, shell
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import KUBERNETES_VERSION

_SOURCES = ("go.mod", "go.sum", "*.go")
_GO_NEEDED = (1, 26)
_GO_DOWNLOADS = "https://go.dev/dl/"


@dataclass(frozen=True)
class Module:
    """A Go module below ``tools/`` and the programs that are built from it."""

    name: str
    packages: dict[str, str]
    ldflags: str = "-s -w"

    @property
    def source(self) -> Path:
        """The folder with the pinned go.mod and go.sum."""
        return paths.TOOLS / self.name

    def key(self) -> str:
        """A hash of all that decides what comes out."""
        digest = hashlib.sha256(f"{self.ldflags}\n{self.packages}\n".encode())
        for pattern in _SOURCES:
            for path in sorted(self.source.glob(pattern)):
                digest.update(f"{path.name}\n".encode() + path.read_bytes())
        return digest.hexdigest()[:12]

    def output(self, program: str) -> Path:
        """Where a program of this module is, or will be."""
        return paths.cache_root() / "binaries" / f"{self.name}-{self.key()}" / program


def _kubernetes_ldflags() -> str:
    """Without a version stamped in, the API server says that it is v0.0.0 and the node is refused."""
    package = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES_VERSION.split(".")
    stamps = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    return "-s -w " + " ".join(f"-X {package}.{name}={value}" for name, value in stamps.items())


_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kubelet", "kube-scheduler", "kube-proxy", "kubectl")

MODULES = (
    Module("pause", {"pause": "."}),
    Module("kubernetes", {name: f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES}, _kubernetes_ldflags()),
    Module("versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
    Module("coredns", {"coredns": "."}),
    Module("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Module("kuberay", {"kuberay-operator": "github.com/ray-project/kuberay/ray-operator"}),
    Module("kueue", {"kueue": "sigs.k8s.io/kueue/cmd/kueue"}),
)
_BY_PROGRAM = {program: module for module in MODULES for program in module.packages}

# Helm is for the people and tests that install the chart, KubeRay and Kueue for those that want them: the cluster comes
# up without.
_FOR_SOME = ("helm", "kuberay-operator", "kueue")
CLUSTER_PROGRAMS = tuple(program for program in _BY_PROGRAM if program not in _FOR_SOME)


def path(program: str) -> Path:
    """The path of a program, built now if it is not there yet."""
    output = _BY_PROGRAM[program].output(program)
    if not output.exists():
        build((program,))
    return output


def build(programs: tuple[str, ...] = tuple(_BY_PROGRAM)) -> None:
    """Build what is missing, one at a time: two Go builds at once only take each other's memory."""
    missing = [program for program in programs if not _BY_PROGRAM[program].output(program).exists()]
    if not missing:
        return
    require_go()
    with locks.exclusive(paths.cache_root() / "binaries.lock"):
        for number, program in enumerate(missing, start=1):
            _build(program, f"{number} of {len(missing)}")


def _build(program: str, position: str) -> None:
    module = _BY_PROGRAM[program]
    output = module.output(program)
    if output.exists():  # another process built it while this one waited for its turn
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(f".{program}.new")
    with progress.step(f"building {program} ({position}; minutes the first time, seconds from a warm Go cache)"):
        log = paths.cache_root() / "logs" / f"build-{program}.log"
        command, environment = build_command(module, program, fresh), os.environ | {"CGO_ENABLED": "0"}
        shell.persistently(lambda: shell.stream(command, log, environment=environment))
    fresh.replace(output)


def build_command(module: Module, program: str, output: Path) -> list[str | Path]:
    """The ``go build`` of one program, from pinned modules only and with nothing of the machine in it."""
    options = ["-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", module.ldflags]
    return ["go", "-C", module.source, "build", *options, "-o", output, module.packages[program]]


def require_go() -> None:
    """Raise `ClusterError` with what to do, unless `go` is there and new enough."""
    needed = "Go {}.{} or newer".format(*_GO_NEEDED)
    if shutil.which("go") is None:
        raise ClusterError(f"Go is needed to build Kubernetes: install {needed} ({_GO_DOWNLOADS}), put it on PATH")
    # Asked inside a module: an older Go that may fetch the toolchain a module asks for answers with that one.
    answer = shell.attempt(["go", "-C", paths.TOOLS / "kubernetes", "env", "GOVERSION"])
    found = answer.stdout.strip() or answer.stderr.strip()
    version = re.search(r"\bgo(\d+)\.(\d+)", answer.stdout)
    if version is None or (int(version[1]), int(version[2])) < _GO_NEEDED:
        raise ClusterError(f"{needed} is needed to build Kubernetes ({_GO_DOWNLOADS}); the `go` on PATH says {found!r}")
