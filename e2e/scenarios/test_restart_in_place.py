"""The cheapest rung of the restart ladder: a killed process starts again in its pod, and the others with it."""

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.stages import saved
from e2e.scenarios.workers import signal_worker
from e2e.support.models import Models
from e2e.support.resources import Object, is_ready

_JOBS = "trainingjobs"
_SECONDS = 11
"""How long a job trains: time for a checkpoint, for the kill, and as much to spare."""


def _identities(space: Space, job: Object) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in space.pods(job)}


def test_a_killed_process_costs_no_attempt_and_no_pod(space: Space, data: Data, models: Models, pace: Pace) -> None:
    name = "in-place"
    space.apply(specs.network(name, data.winter, name, replicas=2, steps=pace.steps(_SECONDS)))
    before = space.journal.wait(_JOBS, name, saved, timeout=120)
    pods = _identities(space, before)
    signal_worker(space, space.gang(before)[0], "SIGKILL")

    done = space.journal.wait(_JOBS, name, is_ready, timeout=180)
    (attempt,) = done["status"]["attempts"]
    assert (attempt["number"], attempt["reason"], attempt["processRestarts"]) == (1, "Completed", 1)
    assert "resumedFromStep" not in attempt, "the attempt itself began at the beginning"
    assert done["status"]["restarts"] == 0
    assert not done["status"].get("failures")
    assert _identities(space, done) == pods
    space.await_event(name, "Warning", "ProcessRestarted")
    assert "Restarting" not in space.journal.reasons(_JOBS, name)
    for worker in space.gang(done):
        assert "resumed from the checkpoint of step" in space.log(worker)
    book = done["status"]["goodput"]["seconds"]
    assert book["restarting"] == 0
    assert book["starting"] > 0
    assert models.numbers_taken(name) == [1]
