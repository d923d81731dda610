"""A real API server with the built-in controllers, and the operator as a process of its own."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.bench.operator import Operator
from e2e.cluster import health
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.processes import Component, Supervisor
from e2e.cluster.standalone import control_plane
from e2e.support.journal import Journal
from tests.simulation.kstatus import violations

ROOT = Path(__file__).parents[3]
_SECONDS = 60.0


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


@pytest.fixture(scope="session")
def plane() -> Iterator[Plane]:
    with control_plane(controller_manager=True) as kubeconfig:
        running = Plane(kubeconfig)
        definitions = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
        running.kubectl.apply(definitions)
        running.kubectl.run("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
        yield running


_numbers = itertools.count(1)


@pytest.fixture
def namespace(plane: Plane) -> Iterator[str]:
    """A namespace of its own for a test; what is of ours in it goes with the test, and kept to kstatus all the time."""
    name = f"test-{next(_numbers)}"
    plane.kubectl.run("create", "namespace", name)
    await_true(lambda: plane.get(name, "serviceaccount", "default"))
    with Journal(plane.kubectl, name, violations) as journal:
        yield name
    assert journal.complaints == []
    plane.kubectl.run("delete", "namespace", name, "--wait=false")


StartOperator = Callable[..., Operator]


@pytest.fixture
def start_operator(plane: Plane, namespace: str, tmp_path: Path) -> Iterator[StartOperator]:
    """Start replicas that work in the test's namespace and compete for a Lease of its own."""
    started: list[Operator] = []

    def start(name: str = "operator-0", *, lead: bool = True, **variables: str) -> Operator:
        environment = {
            "MODELWRIGHT_WATCH_NAMESPACES": namespace,
            "MODELWRIGHT_POD_NAMESPACE": namespace,
            **{f"MODELWRIGHT_{key.upper()}": value for key, value in variables.items()},
        }
        operator = Operator(plane.kubeconfig, tmp_path / f"{name}.log", name, environment)
        started.append(operator)
        operator.start()
        if lead:
            operator.await_leading()
        return operator

    yield start
    for operator in started:
        operator.kill()


def await_true(condition: Callable[[], Any], seconds: float = _SECONDS) -> Any:
    """Return what a condition returns once it is true. Fails after a time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)
    return found


def manifest(example: str, namespace: str, name: str | None = None, **spec: Any) -> dict[str, Any]:
    """Return an example of ours in a namespace, with some fields of its spec changed."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "examples" / f"{example}.yaml").read_text())
    document["metadata"]["namespace"] = namespace
    document["metadata"]["name"] = name or document["metadata"]["name"]
    document["spec"] |= spec
    return document


def ready_reason(document: dict[str, Any] | None) -> str:
    """Return the reason of the Ready condition."""
    conditions = ((document or {}).get("status") or {}).get("conditions") or []
    return next((entry["reason"] for entry in conditions if entry["type"] == "Ready"), "")
