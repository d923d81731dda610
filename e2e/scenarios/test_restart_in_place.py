"""The cheapest rung of the restart ladder: a killed process starts again in its pod, and the others with it."""

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.workers import signal_worker
from e2e.support.models import Models
from e2e.support.resources import Object, condition, is_ready, reason

_JOBS = "trainingjobs"
_SECONDS = 16
"""How long a job trains: time for a checkpoint, for the kill, and as much to spare."""
_TOO_GOOD = {"thresholds": [{"metric": "roc_auc", "min": 0.9999}]}


def _saved(job: Object) -> bool:
    return bool(job.get("status", {}).get("checkpoint", {}).get("step", 0) > 0)


def _ended(job: Object) -> bool:
    return condition(job, "Succeeded").get("status") in ("True", "False")


def _identities(space: Space, job: Object) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in space.pods(job)}


@pytest.mark.parametrize("index", [0, 1])
def test_a_killed_process_costs_no_attempt_and_no_pod(
    space: Space, data: Data, models: Models, pace: Pace, index: int
) -> None:
    name = f"in-place-{index}"
    space.apply(specs.network(name, data.winter, name, replicas=2, steps=pace.steps(_SECONDS)))
    saved = space.journal.wait(_JOBS, name, _saved, timeout=120)
    pods = _identities(space, saved)
    signal_worker(space, space.gang(saved)[index], "SIGKILL")

    done = space.journal.wait(_JOBS, name, is_ready, timeout=180)
    (attempt,) = done["status"]["attempts"]
    assert (attempt["number"], attempt["reason"], attempt["processRestarts"]) == (1, "Completed", 1)
    assert "resumedFromStep" not in attempt, "the attempt itself began at the beginning"
    assert done["status"]["restarts"] == 0
    assert not done["status"].get("failures")
    assert _identities(space, done) == pods
    assert ("Warning", "ProcessRestarted") in [entry[:2] for entry in space.events(name)]
    assert "Restarting" not in space.journal.reasons(_JOBS, name)
    for worker in space.gang(done):
        assert "resumed from the checkpoint of step" in space.log(worker)
    book = done["status"]["goodput"]["seconds"]
    assert book["restarting"] == 0
    assert book["starting"] > 0
    assert models.numbers_taken(name) == [1]


def test_what_a_process_says_is_not_tried_again_in_its_pod(space: Space, data: Data) -> None:
    job = specs.network("said-so", data.winter, "said-so", replicas=2, steps=20)
    space.apply(specs.changed(job, evaluation=_TOO_GOOD))
    over = space.journal.wait(_JOBS, "said-so", _ended, timeout=180, stop=lambda _: False)
    assert reason(over) == "ThresholdNotMet"
    (attempt,) = over["status"]["attempts"]
    assert "processRestarts" not in attempt
