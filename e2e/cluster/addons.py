"""Operators of others for a while, each from a pinned Go module: as a pod, with its kinds, and what it may do.

Each is brought up by who needs it, and for no longer: where its kinds are known, whoever watches them has more to do.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from e2e.cluster import binaries, locks, paths, progress, runtime, shell
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.paths import Layout
from e2e.cluster.processes import Supervisor

_NEEDED = ("containerd", "kube-apiserver", "kube-controller-manager", "kubelet")


@dataclass(frozen=True)
class Definitions:
    """The CustomResourceDefinitions of an operator, as kubectl takes them."""

    word: str
    """`--filename=...`"""
    text: str | None = None
    """What that file holds, if it is standard input."""


class Addon(ABC):
    """An operator that is not ours."""

    title: ClassVar[str]
    program: ClassVar[str]
    """Its name in `binaries`, and that of its image."""
    tool: ClassVar[str]
    """The folder with its go.mod."""
    module: ClassVar[str]
    namespace: ClassVar[str]
    deployment: ClassVar[str]
    finalized: ClassVar[tuple[str, ...]]
    """Kinds whose objects wait for it when they are deleted; first those that others wait for."""

    @abstractmethod
    def definitions(self, layout: Layout) -> Definitions:
        """Return its kinds."""

    @abstractmethod
    def manifests(self, layout: Layout, image: str) -> list[dict[str, Any]]:
        """Return what it is, its namespace first, and what it may do."""

    def container(self, made: list[dict[str, Any]], image: str) -> dict[str, Any]:
        """Return the one of its Deployment, which runs its program from this image now."""
        (deployment,) = (entry for entry in made if entry["kind"] == "Deployment")
        container: dict[str, Any]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        container |= {"image": image, "command": [f"/{self.program}"], "imagePullPolicy": "Never"}
        return container

    def source(self) -> Path:
        """The folder of the module, downloaded now if it is not there yet; `go.sum` says that it is the one meant."""
        command: list[str | Path] = ["go", "-C", paths.TOOLS / self.tool, "mod", "download", "-json", self.module]
        said = shell.persistently(lambda: shell.run(command))
        return Path(json.loads(said)["Dir"])

    def reserved(self) -> AbstractContextManager[None]:
        """Hold it: there is one for all namespaces, and who has it takes it away in the end."""
        return locks.exclusive(paths.state_root() / f"{self.tool}.lock")

    @contextmanager
    def borrowed(self, layout: Layout) -> Iterator[None]:
        """Bring it up, after whoever has it now, and remove it in the end. As the block begins, it may not run yet."""
        with self.reserved():
            try:
                self._install(layout)
                yield
            finally:
                self.remove(layout)

    def up(self, layout: Layout) -> None:
        """Install it as its own manifests say, but for the image, and wait until it runs."""
        self._install(layout)
        self.await_ready(layout)

    def await_ready(self, layout: Layout) -> None:
        """Return when it runs. Raises ClusterError with the last that its pod said where it does not."""
        kubectl = Kubectl(layout.kubeconfig)
        where = (f"deployment/{self.deployment}", f"--namespace={self.namespace}")
        with progress.step(f"waiting for {self.title}"):
            try:
                kubectl.run("rollout", "status", *where, "--timeout=180s")
            except ClusterError as error:
                said = kubectl.attempt("logs", *where, f"--tail={shell.LINES_SHOWN}")
                raise ClusterError(f"{error}\n{said.stdout or said.stderr}") from error

    def remove(self, layout: Layout) -> None:
        """Remove every trace of it, and all that it was given to run."""
        kubectl = Kubectl(layout.kubeconfig)
        with progress.step(f"removing {self.title}"):
            # While it runs: they wait for it.
            for kind in self.finalized:
                _delete_all(kubectl, kind)
            kinds = self.definitions(layout)
            kubectl.run("delete", "--ignore-not-found", "--timeout=60s", kinds.word, text=kinds.text)
            made = {"apiVersion": "v1", "kind": "List", "items": self.manifests(layout, "none")}
            words = ("delete", "--ignore-not-found", "--timeout=60s", "--filename=-")
            kubectl.run(*words, text=json.dumps(made))

    def _install(self, layout: Layout) -> None:
        """Install it, and return when its kinds are known: what is made of them waits for it by itself."""
        binaries.build((self.program,))
        # A second node copies the images of the first, and must find them whole.
        with locks.cluster():
            Supervisor(layout.pids, layout.logs).require(*_NEEDED)
            image = runtime.ensure_program_image(self.program)
        kubectl = Kubectl(layout.kubeconfig)
        with progress.step(f"installing {self.title}"):
            kinds = self.definitions(layout)
            # Too large for the annotation of a client-side apply.
            kubectl.run("apply", "--server-side", kinds.word, text=kinds.text)
            kubectl.apply(self.manifests(layout, image))
            kubectl.run("wait", "--for=condition=Established", "--timeout=60s", kinds.word, text=kinds.text)


def _delete_all(kubectl: Kubectl, kind: str) -> None:
    """Delete all objects of a kind, and take their finalizers where nobody else does it any more."""
    words = ("delete", kind, "--all", "--all-namespaces", "--ignore-not-found", "--timeout=60s")
    if kubectl.attempt(*words).returncode == 0:
        return
    found = kubectl.attempt("get", kind, "--all-namespaces", "--output=json")
    for entry in json.loads(found.stdout)["items"] if found.returncode == 0 else ():
        meta, patch = entry["metadata"], '--patch={"metadata":{"finalizers":null}}'
        scope = [f"--namespace={meta['namespace']}"] if "namespace" in meta else []
        kubectl.attempt("patch", kind, meta["name"], *scope, "--type=merge", patch)
