"""The operator as a process of its own, against a real API server."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio.config import kube_config

from e2e.bench.operator import Operator
from e2e.support.journal import Journal
from e2e.support.programs import Running
from modelwright.kube.__main__ import main
from tests.integration import forked
from tests.integration.plane import Plane
from tests.simulation.kstatus import violations

ROOT = Path(__file__).parents[3]
_SECONDS = 60.0
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
        operator = Operator(plane.kubeconfig, tmp_path / f"{name}.log", name, environment, _fork)
        started.append(operator)
        operator.start()
        if lead:
            operator.await_leading()
        return operator

    yield start
    for operator in started:
        operator.kill()


def _fork(env: Mapping[str, str], log: Path) -> Running:
    return forked.start(_operate, env, log)


def _operate() -> int:
    # Where the client looks was decided when it was imported, before it was known for which test.
    setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", os.environ["KUBECONFIG"])  # noqa: B010 (no constant, then)
    return main()


def await_true(condition: Callable[[], Any], seconds: float = _SECONDS) -> Any:
    """Return what a condition returns once it is true. Fails after a time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        # Most conditions start a kubectl, which takes the CPU that others wait for.
        time.sleep(0.5)
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
