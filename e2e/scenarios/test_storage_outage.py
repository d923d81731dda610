"""S3 goes away for a while: training and serving go on, what needs it waits, and nothing is lost or done twice."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.support.access import reach
from e2e.support.install import Installation
from e2e.support.models import Models
from e2e.support.outage import BackDoor
from e2e.support.resources import Object, condition, is_ready, reason
from e2e.support.traffic import predict, rows_of

pytestmark = pytest.mark.long

_JOBS, _DEPLOYMENTS = "trainingjobs", "modeldeployments"
_TRAINING_SECONDS = 22
"""For an outage that it trains through, a checkpoint after it, and the beginning of another outage."""
_REPORTS = 2


def _step(job: Object) -> int:
    return int(job["status"].get("progress", {}).get("step", 0))


def _saved(job: Object) -> int:
    return int(job["status"].get("checkpoint", {}).get("step", 0))


@pytest.fixture(scope="module")
def door(installation: Installation) -> Iterator[BackDoor]:
    with BackDoor.opened(installation) as door:
        yield door


@pytest.fixture(scope="module")
def running(space: Space, data: Data, models: Models, champion: Object, pace: Pace, door: BackDoor) -> Object:
    """A job that has saved a checkpoint, and a deployment that serves."""
    models.copy(specs.MODEL, champion["status"]["model"]["version"], "lasting", 1)
    models.promote("lasting", 1)
    steps = pace.steps(_TRAINING_SECONDS)
    job = specs.network("lasting", data.winter, "new", replicas=1, steps=steps)
    for entry in (specs.deployment("lasting", "lasting"), job):
        space.apply(specs.changed(entry, storage=door.storage))
    space.journal.wait(_DEPLOYMENTS, "lasting", is_ready, timeout=60)
    return space.journal.wait(_JOBS, "lasting", _saved_some, timeout=120)


def _saved_some(job: Object) -> bool:
    return _saved(job) > 0


def _has_its_pods(job: Object) -> bool:
    return reason(job) == "Starting" and "has its pods" in condition(job, "Ready")["message"]


def _beyond(figure: Callable[[Object], int], before: Object) -> Callable[[Object], bool]:
    return lambda job: figure(job) > figure(before)


@pytest.mark.usefixtures("running")
def test_training_and_serving_go_on_while_s3_is_away(space: Space, data: Data, door: BackDoor) -> None:
    with door.refused_connections():
        last = space.journal.entries(_JOBS, "lasting")[-1].object
        space.poke("modeldeployment", "lasting")
        told = space.journal.wait(
            _DEPLOYMENTS, "lasting", lambda found: reason(found) == "StorageUnavailable", timeout=60
        )
        assert condition(told, "Available")["status"] == "True"
        with reach(space.installation.target, space.namespace, "lasting") as base, httpx.Client() as client:
            assert predict(client, base, "lasting", rows_of(data.live_winter[:1]))["version"] == "1"
        # The first report may tell of steps that were made before.
        for _ in range(_REPORTS):
            last = space.journal.wait(_JOBS, "lasting", _beyond(_step, last), timeout=60)
        assert reason(last) == "Training"
    space.journal.wait(_JOBS, "lasting", _beyond(_saved, last), timeout=60)


@pytest.mark.usefixtures("running")
def test_a_version_that_could_not_be_registered_costs_one_attempt(space: Space, models: Models, door: BackDoor) -> None:
    with door.refused_connections():
        # Whatever it does now: without the store it cannot register what it learns.
        assert reason(space.journal.entries(_JOBS, "lasting")[-1].object) in ("Training", "Evaluating")
        told = space.journal.wait(_JOBS, "lasting", lambda job: reason(job) == "StorageUnavailable", timeout=400)
        assert condition(told, "Reconciling")["status"] == "True"
    done = space.journal.wait(_JOBS, "lasting", is_ready, timeout=240)
    assert [entry["reason"] for entry in done["status"]["attempts"]] == ["StorageUnavailable", "Completed"]
    assert done["status"]["attempts"][1]["resumedFromStep"] > 0
    assert models.versions("new") == [1]


@pytest.mark.usefixtures("running")
def test_a_deployment_is_ready_again_when_s3_is_back(space: Space) -> None:
    space.poke("modeldeployment", "lasting")
    space.journal.wait(_DEPLOYMENTS, "lasting", is_ready, timeout=60)


@pytest.mark.usefixtures("running")
def test_one_that_waits_for_a_store_that_hangs_does_not_hold_one_that_needs_none(
    space: Space, data: Data, door: BackDoor
) -> None:
    with door.hanging_requests():
        space.apply(specs.changed(specs.trees("hanging", data.winter, "hanging"), storage=door.storage))
        space.journal.wait(_JOBS, "hanging", _has_its_pods, timeout=60)
        space.poke("modeldeployment", "lasting")
        space.apply(specs.changed(specs.command("held", "pass", replicas=1), suspend=True))
        space.journal.wait(_JOBS, "held", lambda job: reason(job) == "Suspended", timeout=20)
    space.journal.wait(_JOBS, "hanging", is_ready, timeout=120)
