"""The same TrainingJob under Ray: its pods are one gang, of which one is the head."""

import re

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.stages import saved
from e2e.support.models import Models
from e2e.support.resources import is_ready

pytestmark = pytest.mark.long

_JOBS = "trainingjobs"
_SECONDS = 7
"""How long the job trains: time for a checkpoint, for the loss of the head, and as much to spare."""
_ONE_OF_TWO = re.compile(r"process \d of 2\b")


def test_the_same_spec_trains_on_ray_and_a_killed_head_costs_an_attempt(
    space: Space, data: Data, models: Models, pace: Pace
) -> None:
    job = specs.network("on-ray", data.winter, "on-ray", replicas=2, steps=pace.steps(_SECONDS))
    space.apply(specs.changed(job, framework="Ray"))
    before = space.journal.wait(_JOBS, "on-ray", saved, timeout=300)
    head, _ = space.gang(before)
    space.delete("pod", head, "--force", "--grace-period=0")

    done = space.journal.wait(_JOBS, "on-ray", is_ready, timeout=400)
    lost, last = done["status"]["attempts"]
    assert lost["reason"] in ("PodDeleted", "PeerLost")
    assert last["resumedFromStep"] >= before["status"]["checkpoint"]["step"]
    assert {pod["status"]["phase"] for pod in space.pods(done)} & {"Running", "Pending"} == set()
    assert models.versions("on-ray") == [1]
    # The driver's log has the workers' lines; like ones of other workers it only counts.
    driver, *_ = space.gang(done)
    assert _ONE_OF_TWO.search(space.log(driver))
