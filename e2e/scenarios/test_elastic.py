"""Elastic gangs on a real scheduler: room comes and goes with an extended resource of the node."""

from collections.abc import Iterator

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.slots import Slots
from e2e.scenarios.space import Space
from e2e.scenarios.stages import saved
from e2e.scenarios.waiting import eventually
from e2e.support.models import Models
from e2e.support.resources import Object, is_ready

# It changes what a node has, which is for those to do whose node it is.
pytestmark = [pytest.mark.local_only, pytest.mark.long]

_JOBS = "trainingjobs"
_SECONDS = 29
"""How long the job trains on two pods: through a restart of the gang, and the search for room before it."""
_ELASTIC = {"min": 1, "waitSeconds": 10, "growAfterSeconds": 10}


@pytest.fixture(scope="module")
def slots(space: Space) -> Iterator[Slots]:
    """The node's slots: none before, and none afterwards."""
    slots = Slots(space, "example.com/slot")
    yield slots
    slots.set(None)


def _elastic(name: str, data: Data, pace: Pace, slots: Slots) -> Object:
    job = specs.network(name, data.winter, name, replicas=2, steps=pace.steps(_SECONDS))
    return specs.changed(job, workers={"elastic": _ELASTIC, "resources": slots.one})


def _trains_on(workers: int, job: Object) -> bool:
    """Tell whether its newest attempt has so many workers and has told of a step, and a checkpoint is there."""
    return saved(job) and job["status"]["workers"] == workers and job["status"]["attempts"][-1].get("lastStep", 0) > 0


def _sizes(*attempts: Object) -> list[tuple[int, str]]:
    return [(entry["workers"], entry["reason"]) for entry in attempts]


def _placeholders(space: Space, job: Object) -> list[Object]:
    return space.pods(job, "modelwright.dev/placeholder")


def test_a_gang_goes_on_with_one_worker_when_the_room_of_the_other_is_gone_and_grows_back(
    space: Space, slots: Slots, data: Data, pace: Pace, models: Models
) -> None:
    slots.set(2)
    space.apply(_elastic("breathing", data, pace, slots))
    both = space.journal.wait(_JOBS, "breathing", lambda job: _trains_on(2, job), timeout=120)
    _, worker = space.gang(both)
    slots.set(1)
    space.delete("pod", worker, "--force", "--grace-period=0")

    alone = space.journal.wait(_JOBS, "breathing", lambda job: _trains_on(1, job), timeout=180)
    assert len(space.gang(alone)) == 1
    waiting = eventually(lambda: _placeholders(space, alone), "nothing looks for room for the second worker")
    assert [pod["status"]["phase"] for pod in waiting] == ["Pending"]
    slots.set(2)

    done = space.journal.wait(_JOBS, "breathing", is_ready, timeout=400)
    lost, shrunk, grown, last = done["status"]["attempts"]
    # What is killed may be outrun by the peer that it leaves behind.
    assert (lost["workers"], lost["reason"]) in ((2, "PodDeleted"), (2, "PeerLost"))
    assert _sizes(shrunk, grown, last) == [(2, "Shrunk"), (1, "Grown"), (2, "Completed")]
    assert grown["resumedFromStep"] >= both["status"]["checkpoint"]["step"]
    assert last["resumedFromStep"] >= grown["lastStep"] - 1 > 0, "it saved when it was asked to leave"
    assert done["status"]["failures"] == [{"failureClass": "Infrastructure", "count": 1}]
    assert models.numbers_taken("breathing") == [1]
    told = [entry[1] for entry in space.events("breathing")]
    assert told.count("Shrunk") == told.count("Grown") == 1
    assert _placeholders(space, done) == []
