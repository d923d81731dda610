"""A real API server with the built-in controllers that knows the four kinds, and what a user does with kubectl."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import health
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.processes import Component, Supervisor
from e2e.cluster.standalone import control_plane

_DEFINITIONS = Path(__file__).parents[2] / "crds"


class Plane:
    """The control plane, and what a user does with kubectl."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl = Kubectl(kubeconfig)
        self._supervisor = Supervisor(kubeconfig.parent / "pids", kubeconfig.parent / "logs")

    def get(self, namespace: str, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object; None when it is not there."""
        answer = self.kubectl.attempt("get", kind, name, f"--namespace={namespace}", "--output=json")
        return json.loads(answer.stdout) if answer.returncode == 0 else None

    def list(self, namespace: str, kind: str) -> list[dict[str, Any]]:
        """Return all objects of a kind in a namespace."""
        found: list[dict[str, Any]] = self.kubectl.get(kind, f"--namespace={namespace}")["items"]
        return found

    def restart_api_server(self) -> None:
        """Break every watch, and make the server forget where they were."""
        record = self._supervisor.find("kube-apiserver")
        assert record is not None
        argv = tuple(Path(f"/proc/{record.pid}/cmdline").read_text().rstrip("\0").split("\0"))
        self._supervisor.stop("kube-apiserver", grace=0)
        url = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        again = Component(
            "kube-apiserver", argv, ready=lambda: health.answers(f"{url}/readyz", self.kubeconfig.parent / "pki")
        )
        self._supervisor.launch(again)
        self._supervisor.await_ready(again)


@contextmanager
def running(*, pod_groups: bool = False) -> Iterator[Plane]:
    """Run a control plane that knows the four kinds, and PodGroups if wanted."""
    with control_plane(controller_manager=True, pod_groups=pod_groups) as kubeconfig:
        plane = Plane(kubeconfig)
        plane.kubectl.apply([yaml.safe_load(path.read_text()) for path in sorted(_DEFINITIONS.glob("*.yaml"))])
        plane.kubectl.run("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
        yield plane
