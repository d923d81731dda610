"""One installed operator for all scenarios, one namespace for each file, and data that is uploaded once.

Files may be shared out among processes (`pytest --numprocesses 2 --dist loadfile`): what all of them use is made by the
first that needs it. A file that is marked `alone` waits until no other is at work.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from e2e.cluster import images, lifecycle
from e2e.cluster.paths import Layout
from e2e.cluster.target import Target, resolve
from e2e.scenarios import specs
from e2e.scenarios.pace import Pace, pace_of
from e2e.scenarios.sharing import Sharing
from e2e.scenarios.space import Space
from e2e.support import flights
from e2e.support.flights import SUMMER, WINTER
from e2e.support.install import OPERATOR_NAMESPACE, Installation
from e2e.support.journal import Journal
from e2e.support.models import Models
from e2e.support.operator_pods import OperatorPods
from e2e.support.resources import Object, is_ready
from e2e.support.rows import parquet

_LOCAL = "MODELWRIGHT_KUBE_CONTEXT" not in os.environ
# Only the local cluster's S3 server is ours to stop.
collect_ignore = [] if _LOCAL else ["test_storage_outage.py"]
_LOCAL_ONLY, _ALONE, _LONG = "local_only", "alone", "long"

_PREFIX = "e2e"
_GANG = "e2e-gang"
_JOBS = "trainingjobs"
_ROWS, _LIVE_ROWS = 6_000, 4_000
_TIMEOUT_SECONDS = 1200
"""For one test, and for its file to have its turn; twice that where it waits for all others."""
_SHARED = "MODELWRIGHT_SCENARIOS"
_failed = pytest.StashKey[set[str]]()
_folder = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


@dataclass(frozen=True)
class Data:
    """Flights, where training finds them and as they arrive."""

    winter: str
    """The URI of labelled flights."""
    live_winter: pd.DataFrame
    """Other flights of the same months."""
    live_summer: pd.DataFrame


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_failed] = set()
    config.addinivalue_line("markers", f"{_LOCAL_ONLY}: meets a Service by its address, not by a port-forward")
    config.addinivalue_line("markers", f"{_ALONE}: takes away the operator, which all others need")
    config.addinivalue_line("markers", f"{_LONG}: takes minutes, so it begins before others")
    if not hasattr(config, "workerinput"):
        # Processes that are started for a share of the files inherit it.
        config.stash[_folder] = tempfile.TemporaryDirectory(prefix="modelwright-scenarios-")
        os.environ[_SHARED] = config.stash[_folder].name


def pytest_unconfigure(config: pytest.Config) -> None:
    if _folder not in config.stash:
        return
    if Sharing(Path(config.stash[_folder].name)).is_made(_GANG):
        resolve().kubectl.run("delete", "namespace", _GANG, "--ignore-not-found", "--wait=false")
    config.stash[_folder].cleanup()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [] if _LOCAL else [item for item in items if _has(item, _LOCAL_ONLY)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    # Those that wait for all others last. First who needs nothing that is made before it, while that is made; then the
    # longest: nobody is left with much in the end.
    sizes = Counter(item.path for item in items)
    waiting = {item.path for item in items if "gang" in getattr(item, "fixturenames", ())}
    items.sort(
        key=lambda item: (
            _has(item, _ALONE),
            item.path in waiting,
            not _has(item, _LONG),
            -sizes[item.path],
            str(item.path),
        )
    )
    for item in items:
        item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS * (2 if _has(item, _ALONE) else 1)))


def _has(item: pytest.Item | pytest.Module, marker: str) -> bool:
    return item.get_closest_marker(marker) is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        item.config.stash[_failed].add(item.module.__name__)
        if isinstance(space := item.funcargs.get("space"), Space):
            report.sections.append(("look around", _hint(space)))
    return report


def _hint(space: Space) -> str:
    return (
        f"namespace {space.namespace} is kept:\n"
        f"  export KUBECONFIG={space.installation.target.kubeconfig}\n"
        f"  kubectl get modelwright,pods --namespace={space.namespace}\n"
        f"  kubectl get events --namespace={space.namespace} --sort-by=.lastTimestamp\n"
        f"  kubectl logs deployment/modelwright-operator --namespace={OPERATOR_NAMESPACE}"
    )


@pytest.fixture(scope="session")
def sharing() -> Sharing:
    return Sharing(Path(os.environ[_SHARED]))


@pytest.fixture(scope="module", autouse=True)
def turn(request: pytest.FixtureRequest, sharing: Sharing) -> Iterator[None]:
    """The turn of a file."""
    with sharing.turn(alone=_has(request.node, _ALONE)):
        yield


@pytest.fixture(scope="session")
def target(sharing: Sharing) -> Target:
    def start() -> None:
        if _LOCAL:
            layout = Layout.default()
            lifecycle.up(layout)
            images.ensure(layout)

    sharing.once("cluster", start)
    return resolve()


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest, target: Target, sharing: Sharing) -> Installation:
    # Only for the file of that name: everybody else finds room.
    quota = {"name": "e2e", "namespaces": [_namespace_of("test_queueing")], "resources": {"cpu": "200m"}}
    installation = Installation(target, _PREFIX, {"quotas": [quota]})
    modules = {item.module.__name__ for item in request.session.items if isinstance(item, pytest.Function)}

    def install() -> None:
        # What failed in an earlier run was kept to look around; its pods take a while to go.
        installation.discard_namespaces([_GANG, *sorted(map(_namespace_of, modules))])
        installation.bucket.clear()
        installation.install()
        OperatorPods(target).await_leader()

    sharing.once("installation", install)
    return installation


@pytest.fixture(scope="session")
def operator_pods(installation: Installation) -> OperatorPods:
    return OperatorPods(installation.target)


@pytest.fixture(scope="session")
def models(installation: Installation) -> Models:
    return Models(installation.bucket)


@pytest.fixture(scope="session")
def data(installation: Installation, sharing: Sharing) -> Data:
    winter = flights.season(WINTER, _ROWS + _LIVE_ROWS, seed=1)
    rows = parquet(winter[:_ROWS])
    return Data(
        winter=sharing.once("winter", lambda: installation.bucket.put("flights/winter.parquet", rows)),
        live_winter=winter[_ROWS:].drop(columns=[flights.TARGET]),
        live_summer=flights.season(SUMMER, _LIVE_ROWS, seed=1).drop(columns=[flights.TARGET]),
    )


@pytest.fixture(scope="session")
def gang(installation: Installation, data: Data, sharing: Sharing) -> Space:
    """A namespace in which two pods have trained a network: the model `flight-delay`, whose champion is version 1."""

    def train() -> list[Object]:
        with Space.opened(installation, _GANG) as space:
            job = specs.network("flights", data.winter, specs.MODEL, replicas=2, steps=20)
            space.apply(specs.changed(job, model={"promotion": specs.PROMOTION}))
            space.journal.wait(_JOBS, "flights", is_ready, timeout=180)
            assert not space.journal.complaints, space.journal.complaints
            return space.journal.record(_JOBS, "flights")

    record = sharing.once(_GANG, train)
    return Space(installation, _GANG, Journal.of(installation.target.kubectl, _GANG, _JOBS, record))


@pytest.fixture(scope="session")
def champion(gang: Space) -> Object:
    """The job that trained `flight-delay`."""
    return gang.journal.wait(_JOBS, "flights", is_ready, timeout=1)


@pytest.fixture(scope="session")
def pace(gang: Space, champion: Object) -> Pace:
    """How fast this machine trains, by the job of `champion`."""
    return pace_of(gang.journal.entries(_JOBS, champion["metadata"]["name"]))


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


def _namespace_of(module: str) -> str:
    return "e2e-" + module.rpartition("test_")[2].replace("_", "-")
