"""What the time of a job was spent on, as real pods and a real scheduler make it."""

from datetime import datetime
from itertools import pairwise

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.support.models import Models
from e2e.support.resources import Object, is_ready

_JOBS = "trainingjobs"
_SECONDS = 10
"""How long the job trains that is interrupted on the way: what it had done by then takes seconds to be done again."""
_KILL_WORKER = """
import os, signal
for child in open("/proc/1/task/1/children").read().split():
    os.kill(int(child), signal.SIGKILL)
"""
_SILENT = "import time; time.sleep(6)"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _assert_whole(job: Object) -> None:
    """Check that every second from the job's creation to its end is in one bucket."""
    book = job["status"]["goodput"]
    lived = _seconds(job["status"]["completionTime"]) - _seconds(job["metadata"]["creationTimestamp"])
    assert sum(book["seconds"].values()) + book["suspendedSeconds"] == lived
    assert book["asOf"] == job["status"]["completionTime"]


@pytest.fixture(scope="module")
def killed(space: Space, data: Data, pace: Pace) -> Object:
    """A job without a checkpoint, of which a worker process is killed on the way."""
    job = specs.network("killed", data.winter, "killed", replicas=1, steps=pace.steps(_SECONDS))
    space.apply(specs.changed(job, checkpoint={"everySeconds": 3600}, failurePolicy={"backoffSeconds": 5}))

    def well_on(job: Object) -> bool:
        progress = job.get("status", {}).get("progress", {})
        return bool(progress.get("step", 0) > progress.get("totalSteps", 0) / 3)

    (worker,) = space.gang(space.journal.wait(_JOBS, "killed", well_on, timeout=120))
    space.kubectl.run("exec", worker, f"--namespace={space.namespace}", "--", "python", "-c", _KILL_WORKER)
    return space.journal.wait(_JOBS, "killed", is_ready, timeout=180)


def test_a_job_that_was_killed_once_says_what_that_cost(killed: Object) -> None:
    _assert_whole(killed)
    seconds = killed["status"]["goodput"]["seconds"]
    assert killed["status"]["restarts"] == 1
    assert seconds["restarting"] >= 4, "the back-off alone is five seconds"
    assert seconds["lost"] > 0
    assert seconds["starting"] > 0
    assert seconds["training"] > 0
    first, job = killed["status"]["attempts"][0], killed["status"]
    assert first["lostSteps"] == first["lastStep"] == job["goodput"]["furthestStep"] > job["progress"]["totalSteps"] / 3
    share = seconds["training"] / sum(seconds.values())
    assert killed["status"]["goodput"]["share"] == pytest.approx(share, abs=0.001)
    assert "acceleratorHours" not in killed["status"]["goodput"], "it had no GPU"


@pytest.mark.usefixtures("killed")
def test_what_was_counted_stays_where_it_is(space: Space) -> None:
    told = [entry.object["status"]["goodput"] for entry in space.journal.entries(_JOBS, "killed")[1:]]
    assert len(told) > 3
    for before, after in pairwise(told):
        assert all(after["seconds"][name] >= value for name, value in before["seconds"].items()), (before, after)


@pytest.mark.usefixtures("killed")
def test_the_model_card_tells_of_the_attempt_that_wrote_it(models: Models) -> None:
    assert b"s of attempt 2 trained: " in models.file("killed", 1, "card.html")
    spent = models.lineage("killed", 1).spent
    assert spent is not None
    assert spent.starting > 0
    assert spent.training > 0


def test_a_program_that_reports_nothing_is_left_open(space: Space) -> None:
    space.apply(specs.command("silent", _SILENT, replicas=1))
    job = space.journal.wait(_JOBS, "silent", is_ready, timeout=120)
    _assert_whole(job)
    assert job["status"]["goodput"]["seconds"]["other"] >= 5
    assert job["status"]["goodput"]["seconds"]["training"] == 0
    assert "share" not in job["status"]["goodput"]
