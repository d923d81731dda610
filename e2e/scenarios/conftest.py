"""One installed operator for all scenarios, one namespace for each file, and data that is uploaded once."""

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import pandas as pd
import pytest

from e2e.cluster import images, lifecycle
from e2e.cluster.paths import Layout
from e2e.cluster.target import Target, resolve
from e2e.scenarios import specs
from e2e.scenarios.pace import Pace, pace_of
from e2e.scenarios.space import Space
from e2e.support import flights
from e2e.support.flights import SUMMER, WINTER
from e2e.support.install import OPERATOR_NAMESPACE, Installation
from e2e.support.models import Models
from e2e.support.operator_pods import OperatorPods
from e2e.support.resources import Object, is_ready
from e2e.support.rows import parquet

_LOCAL = "MODELWRIGHT_KUBE_CONTEXT" not in os.environ
# Only the local cluster's S3 server is ours to stop.
collect_ignore = [] if _LOCAL else ["test_storage_outage.py"]
_LOCAL_ONLY = "local_only"

_PREFIX = "e2e"
_GANG = "e2e-gang"
_ROWS, _LIVE_ROWS = 6_000, 4_000
_TIMEOUT_SECONDS = 600
_failed = pytest.StashKey[set[str]]()
_kept = pytest.StashKey[list[str]]()


@dataclass(frozen=True)
class Data:
    """Flights, where training finds them and as they arrive."""

    winter: str
    """The URI of labelled flights."""
    live_winter: pd.DataFrame
    """Other flights of the same months."""
    live_summer: pd.DataFrame


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_failed], config.stash[_kept] = set(), []
    config.addinivalue_line("markers", f"{_LOCAL_ONLY}: meets a Service by its address, not by a port-forward")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [] if _LOCAL else [item for item in items if item.get_closest_marker(_LOCAL_ONLY)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        item.config.stash[_failed].add(item.module.__name__)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for hint in config.stash[_kept]:
        terminalreporter.write_line(hint)


@pytest.fixture(scope="session")
def target() -> Target:
    if _LOCAL:
        layout = Layout.default()
        lifecycle.up(layout)
        images.ensure(layout)
    return resolve()


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest, target: Target) -> Installation:
    # Only for the file of that name: everybody else finds room.
    quota = {"name": "e2e", "namespaces": [_namespace_of("test_queueing")], "resources": {"cpu": "200m"}}
    installation = Installation(target, _PREFIX, {"quotas": [quota]})
    modules = {item.module.__name__ for item in request.session.items if isinstance(item, pytest.Function)}
    # What failed in an earlier run was kept to look around; its pods take a while to go.
    installation.discard_namespaces([_GANG, *sorted(map(_namespace_of, modules))])
    installation.bucket.clear()
    installation.install()
    OperatorPods(target).await_leader()
    return installation


@pytest.fixture(scope="session")
def operator_pods(installation: Installation) -> OperatorPods:
    return OperatorPods(installation.target)


@pytest.fixture(scope="session")
def models(installation: Installation) -> Models:
    return Models(installation.bucket)


@pytest.fixture(scope="session")
def data(installation: Installation) -> Data:
    winter = flights.season(WINTER, _ROWS + _LIVE_ROWS, seed=1)
    return Data(
        winter=installation.bucket.put("flights/winter.parquet", parquet(winter[:_ROWS])),
        live_winter=winter[_ROWS:].drop(columns=[flights.TARGET]),
        live_summer=flights.season(SUMMER, _LIVE_ROWS, seed=1).drop(columns=[flights.TARGET]),
    )


@pytest.fixture(scope="session")
def gang(installation: Installation, data: Data) -> Iterator[Space]:
    """A namespace in which two pods have trained a network: the model `flight-delay`, whose champion is version 1."""
    with Space.opened(installation, _GANG) as space:
        job = specs.network("flights", data.winter, specs.MODEL, replicas=2, steps=20)
        space.apply(specs.changed(job, model={"promotion": specs.PROMOTION}))
        space.journal.wait("trainingjobs", "flights", is_ready, timeout=180)
        yield space
        space.leave()
        space.close()


@pytest.fixture(scope="session")
def champion(gang: Space) -> Object:
    """The job that trained `flight-delay`."""
    return gang.journal.wait("trainingjobs", "flights", is_ready, timeout=1)


@pytest.fixture(scope="session")
def pace(gang: Space, champion: Object) -> Pace:
    """How fast this machine trains, by the job of `champion`."""
    return pace_of(gang.journal.entries("trainingjobs", champion["metadata"]["name"]))


@pytest.fixture(scope="session")
def left() -> Iterator[list[Space]]:
    """Namespaces whose files are done; they become empty while others are at work, and must be so in the end."""
    spaces: list[Space] = []
    yield spaces
    for space in spaces:
        space.close()


@pytest.fixture(scope="module")
def space(request: pytest.FixtureRequest, installation: Installation, left: list[Space]) -> Iterator[Space]:
    """The namespace of a file: empty at first; afterwards nothing may stay in it, or it is kept to look around."""
    name = _namespace_of(request.module.__name__)
    with Space.opened(installation, name) as space:
        yield space
        if request.module.__name__ not in request.config.stash[_failed]:
            space.leave()
            left.append(space)
            return
        kubeconfig = installation.target.kubeconfig
        request.config.stash[_kept].append(
            f"namespace {name} is kept; look around with\n"
            f"  export KUBECONFIG={kubeconfig}\n"
            f"  kubectl get modelwright,pods --namespace={name}\n"
            f"  kubectl get events --namespace={name} --sort-by=.lastTimestamp\n"
            f"  kubectl logs deployment/modelwright-operator --namespace={OPERATOR_NAMESPACE}"
        )


def _namespace_of(module: str) -> str:
    return "e2e-" + module.rpartition("test_")[2].replace("_", "-")
