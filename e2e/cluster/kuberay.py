"""KubeRay for a while, from a pinned Go module: its operator as a pod, its kinds, and what it may do.

It is brought up by who needs it, and for no longer: where its kinds are known, whoever watches them has more to do.
Tests on an API server without nodes take only the kinds, for which nothing is built.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries, files, locks, paths, progress, runtime, shell
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.paths import Layout
from e2e.cluster.processes import Supervisor

NAMESPACE = "kuberay"
PROGRAM = "kuberay-operator"
_MODULE = "github.com/ray-project/kuberay/ray-operator"
_NEEDED = ("containerd", "kube-apiserver", "kube-controller-manager", "kubelet")


def source() -> Path:
    """The folder of the module, downloaded now if it is not there yet; `go.sum` says that it is the one meant."""
    said = shell.run(["go", "-C", paths.TOOLS / "kuberay", "mod", "download", "-json", _MODULE])
    return Path(json.loads(said)["Dir"])


def definitions() -> Path:
    """The folder with the CustomResourceDefinitions."""
    return source() / "config" / "crd" / "bases"


def reserved() -> AbstractContextManager[None]:
    """Hold KubeRay: there is one for all namespaces, and who has it takes it away in the end."""
    return locks.exclusive(paths.state_root() / "kuberay.lock")


@contextmanager
def borrowed(layout: Layout) -> Iterator[None]:
    """Bring it up, after whoever has it now, and remove it in the end. When the block begins, it may not run yet."""
    with reserved():
        try:
            _install(layout)
            yield
        finally:
            remove(layout)


def up(layout: Layout) -> None:
    """Install it as its own manifests say, but for the image, and wait until it runs."""
    kubectl = _install(layout)
    with progress.step("waiting for KubeRay"):
        kubectl.run("rollout", "status", f"deployment/{PROGRAM}", f"--namespace={NAMESPACE}", "--timeout=120s")


def _install(layout: Layout) -> Kubectl:
    """Install it, and return when its kinds are known: what is made of them waits for it by itself."""
    binaries.build((PROGRAM,))
    # A second node copies the images of the first, and must find them whole.
    with locks.cluster():
        Supervisor(layout.pids, layout.logs).require(*_NEEDED)
        image = runtime.ensure_program_image(PROGRAM)
    kubectl = Kubectl(layout.kubeconfig)
    with progress.step("installing KubeRay"):
        # Too large for the annotation of a client-side apply.
        kubectl.run("apply", "--server-side", f"--filename={definitions()}")
        kubectl.apply(_manifests(kubectl, image))
        kubectl.run("wait", "--for=condition=Established", "--timeout=60s", f"--filename={definitions()}")
    return kubectl


def remove(layout: Layout) -> None:
    """Remove every trace of it, and all that it was given to run."""
    kubectl = Kubectl(layout.kubeconfig)
    kinds = ("delete", "--ignore-not-found", "--timeout=60s", f"--filename={definitions()}")
    with progress.step("removing KubeRay"):
        # First, while it runs: it has its finalizer on RayJobs.
        if kubectl.attempt(*kinds).returncode != 0:
            _let_go(kubectl)
            kubectl.run(*kinds)
        made = {"apiVersion": "v1", "kind": "List", "items": _manifests(kubectl, "none")}
        kubectl.run("delete", "--ignore-not-found", "--timeout=60s", "--filename=-", text=json.dumps(made))


def _manifests(kubectl: Kubectl, image: str) -> list[dict[str, Any]]:
    """What the operator is, and what it may do. The definitions are megabytes, which nobody here has to read."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    with tempfile.TemporaryDirectory() as folder:
        parts = [source() / "config" / name for name in ("rbac", "manager")]
        bases = [os.path.relpath(part, Path(folder).resolve()) for part in parts]
        files.write_json(Path(folder) / "kustomization.yaml", {"namespace": NAMESPACE, "resources": bases})
        made = list(yaml.safe_load_all(kubectl.run("kustomize", folder)))
    (deployment,) = (entry for entry in made if entry["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container |= {"image": image, "command": [f"/{PROGRAM}"], "imagePullPolicy": "Never"}
    return [namespace, *made]


def _let_go(kubectl: Kubectl) -> None:
    """Take the finalizers from RayJobs that nobody looks after any more."""
    found = kubectl.attempt("get", "rayjobs.ray.io", "--all-namespaces", "--output=json")
    for job in json.loads(found.stdout)["items"] if found.returncode == 0 else ():
        meta, patch = job["metadata"], '--patch={"metadata":{"finalizers":null}}'
        kubectl.attempt("patch", "rayjob", meta["name"], f"--namespace={meta['namespace']}", "--type=merge", patch)
