"""S3 goes away for a while: training and serving go on, what needs it waits, and nothing is lost or done twice."""

import time

import httpx
import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.space import Space
from e2e.support.access import reach
from e2e.support.models import Models
from e2e.support.outage import hanging_requests, refused_connections
from e2e.support.resources import Object, condition, is_ready, reason
from e2e.support.traffic import predict, rows_of

_JOBS, _DEPLOYMENTS = "trainingjobs", "modeldeployments"
_LONG = 100
_OUTAGE_SECONDS = 10


def _step(job: Object) -> int:
    return int(job["status"].get("progress", {}).get("step", 0))


def _saved(job: Object) -> int:
    return int(job["status"].get("checkpoint", {}).get("step", 0))


@pytest.fixture(scope="module")
def running(space: Space, data: Data, models: Models, champion: Object) -> Object:
    """A job that has saved a checkpoint, and a deployment that serves."""
    models.copy(specs.MODEL, champion["status"]["model"]["version"], "lasting", 1)
    models.promote("lasting", 1)
    space.apply(
        specs.deployment("lasting", "lasting"), specs.network("lasting", data.winter, "new", replicas=1, steps=_LONG)
    )
    space.journal.wait(_DEPLOYMENTS, "lasting", is_ready, timeout=60)
    return space.journal.wait(_JOBS, "lasting", _saved_some, timeout=60)


def _saved_some(job: Object) -> bool:
    return _saved(job) > 0


def test_training_and_serving_go_on_while_s3_is_away(space: Space, running: Object, data: Data) -> None:
    with refused_connections():
        began = time.monotonic()
        space.poke("modeldeployment", "lasting")
        told = space.journal.wait(
            _DEPLOYMENTS, "lasting", lambda found: reason(found) == "StorageUnavailable", timeout=60
        )
        assert condition(told, "Available")["status"] == "True"
        with reach(space.installation.target, space.namespace, "lasting") as base, httpx.Client() as client:
            assert predict(client, base, "lasting", rows_of(data.live_winter[:1]))["version"] == "1"
        time.sleep(max(0.0, began + _OUTAGE_SECONDS - time.monotonic()))
        last = space.journal.entries(_JOBS, "lasting")[-1].object
        assert _step(last) > _step(running), "training stood still"
        assert reason(last) == "Training"
    space.journal.wait(_JOBS, "lasting", lambda job: _saved(job) > _saved(last), timeout=60)
    space.poke("modeldeployment", "lasting")
    space.journal.wait(_DEPLOYMENTS, "lasting", is_ready, timeout=60)


@pytest.mark.usefixtures("running")
def test_a_version_that_could_not_be_registered_costs_one_attempt(space: Space, models: Models) -> None:
    def late(job: Object) -> bool:
        return bool(_step(job) > 0.8 * job["status"]["progress"]["totalSteps"])

    space.journal.wait(_JOBS, "lasting", late, timeout=120)
    with refused_connections():
        told = space.journal.wait(_JOBS, "lasting", lambda job: reason(job) == "StorageUnavailable", timeout=120)
        assert condition(told, "Reconciling")["status"] == "True"
    done = space.journal.wait(_JOBS, "lasting", is_ready, timeout=120)
    assert [entry["reason"] for entry in done["status"]["attempts"]] == ["StorageUnavailable", "Completed"]
    assert done["status"]["attempts"][1]["resumedFromStep"] > 0
    assert models.versions("new") == [1]


def test_a_store_that_hangs_holds_nobody_but_who_needs_it(space: Space, data: Data) -> None:
    with hanging_requests():
        space.apply(specs.trees("hanging", data.winter, "hanging"))
        space.journal.wait(_JOBS, "hanging", lambda job: reason(job) == "Training", timeout=60)
        # One that needs S3 and gets no answer must not keep the operator from another that does not.
        space.poke("modeldeployment", "lasting")
        space.apply(specs.changed(specs.command("held", "pass", replicas=1), suspend=True))
        space.journal.wait(_JOBS, "held", lambda job: reason(job) == "Suspended", timeout=20)
    space.journal.wait(_JOBS, "hanging", is_ready, timeout=120)
