"""A node that vanishes under a worker, as a machine whose plug is pulled: the gang goes on without it."""

from collections.abc import Iterator

import pytest

from e2e.cluster import second_node
from e2e.cluster.paths import Layout
from e2e.cluster.settings import NODE_NAME, SECOND_NODE_NAME
from e2e.scenarios import placement, specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.stages import saved
from e2e.support.models import Models
from e2e.support.resources import Object, is_ready

# The second node is a part of our own cluster.
pytestmark = [pytest.mark.local_only, pytest.mark.long]

_JOBS = "trainingjobs"
_SECONDS = 15
"""How long the job trains without faults: time for a checkpoint, for the loss, and as much to spare."""
_LIMIT_SECONDS = 240
"""Kubernetes itself takes 50 s until it says that a node does not answer, and 300 s more until it does anything."""


@pytest.fixture(scope="module", autouse=True)
def nodes(space: Space) -> Iterator[None]:
    """A second node, which nobody else has meanwhile."""
    with second_node.borrowed(Layout.default()):
        space.apply(*placement.anchors())
        yield


def _goes_on(job: Object) -> bool:
    """Tell whether a second attempt has told of a step."""
    attempts = job["status"].get("attempts", [])
    return len(attempts) == 2 and attempts[-1].get("lastStep", 0) > 0


def test_a_gang_goes_on_from_a_checkpoint_when_the_node_of_a_worker_vanishes(
    space: Space, data: Data, models: Models, pace: Pace
) -> None:
    name = "plugged"
    job = specs.network(name, data.winter, name, replicas=2, steps=pace.steps(_SECONDS))
    space.apply(placement.on_two_nodes(job))
    before = space.journal.wait(_JOBS, name, saved, timeout=240)
    assert placement.nodes_of(space.pods(before)) == placement.NODES
    second_node.lose(Layout.default())

    # Whoever waits for Kubernetes alone does not get here in time.
    after = space.journal.wait(_JOBS, name, _goes_on, timeout=_LIMIT_SECONDS)
    assert placement.nodes_of(space.pods(after, "modelwright.dev/attempt=2")) == (NODE_NAME, NODE_NAME)
    lost, present = after["status"]["attempts"]
    assert (lost["reason"], lost["failureClass"], lost["node"]) == ("NodeLost", "Infrastructure", SECOND_NODE_NAME)
    assert present["resumedFromStep"] >= before["status"]["checkpoint"]["step"]

    done = space.journal.wait(_JOBS, name, is_ready, timeout=180)
    assert [attempt["reason"] for attempt in done["status"]["attempts"]] == ["NodeLost", "Completed"]
    assert done["status"]["restarts"] == 1
    assert done["status"]["failures"] == [{"failureClass": "Infrastructure", "count": 1}]
    assert models.numbers_taken(name) == [1]
