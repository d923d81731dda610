"""Two gangs with room for one: the scheduler finds nodes for all pods of a gang, or for none of them."""

import re
from collections.abc import Iterator

import pytest

from e2e.scenarios import specs
from e2e.scenarios.slots import Slots
from e2e.scenarios.space import Space
from e2e.scenarios.waiting import eventually
from e2e.support.resources import condition, reason

# It changes what a node has, and the features of the cluster are its own.
pytestmark = pytest.mark.local_only

_JOBS = "trainingjobs"
_GANGS = ("left", "right")
_SEAT = "example.com/seat"
# Another scenario may have a second node at this time, which is not for these.
_TOGETHER = re.compile(r"2 pods must find nodes together, and do not: 0/\d nodes are available: ")


@pytest.fixture(scope="module")
def seats(space: Space) -> Iterator[Slots]:
    """Seats of the node: none before, and none afterwards."""
    seats = Slots(space, _SEAT)
    yield seats
    seats.set(None)


@pytest.fixture(scope="module", autouse=True)
def gangs(space: Space, seats: Slots) -> None:
    """Two gangs of two that train for some seconds, and one seat."""
    seats.set(1)
    jobs = [specs.command(name, "import time; time.sleep(20)", replicas=2) for name in _GANGS]
    space.apply(*(specs.changed(job, workers={"resources": seats.one}) for job in jobs))


def _seated(space: Space, name: str) -> int:
    """Return how many pods of a gang have a node."""
    return sum("nodeName" in pod["spec"] for pod in space.pods(space.job(name)))


def test_a_gang_that_does_not_fit_holds_nothing_and_says_what_all_of_it_needs(space: Space) -> None:
    for name in _GANGS:
        job = space.journal.wait(_JOBS, name, lambda job: reason(job) == "Unschedulable", timeout=60)
        message = condition(job, "Ready")["message"]
        assert _TOGETHER.match(message)
        assert f"1 Insufficient {_SEAT}" in message
        assert len(space.pods(job)) == 2
        assert _seated(space, name) == 0, "the seat that there is stays free"
    for name in _GANGS:
        (group,) = space.list("podgroups", f"modelwright.dev/owner-uid={space.job(name)['metadata']['uid']}")
        assert group["spec"]["schedulingPolicy"] == {"gang": {"minCount": 2}}
        (scheduled,) = group["status"]["conditions"]
        assert (scheduled["type"], scheduled["status"], scheduled["reason"]) == (
            "PodGroupScheduled",
            "False",
            "Unschedulable",
        )


def test_with_room_for_one_and_a_half_one_gang_trains_and_the_other_holds_nothing(space: Space, seats: Slots) -> None:
    seats.set(3)
    eventually(lambda: 2 in [_seated(space, name) for name in _GANGS], "no gang has both of its seats")
    (first,) = [name for name in _GANGS if _seated(space, name) == 2]
    (second,) = [name for name in _GANGS if name != first]
    space.journal.wait(_JOBS, first, lambda job: reason(job) == "Training", timeout=60)
    assert _seated(space, second) == 0, "the third seat stays free"
    assert reason(space.job(second)) == "Unschedulable"
    for name in (first, second):
        space.journal.wait(_JOBS, name, lambda job: reason(job) == "Succeeded", timeout=120)


def test_groups_go_with_their_gangs(space: Space) -> None:
    for name in _GANGS:
        space.delete("trainingjob", name)
    eventually(lambda: not space.list("podgroups"), "a PodGroup stays behind")
