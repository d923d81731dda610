"""A gang that makes no step any more: found, told with its stacks, and started again. And logs outlive their pods."""

import pytest

from e2e.scenarios import specs
from e2e.scenarios.conftest import Data
from e2e.scenarios.pace import Pace
from e2e.scenarios.space import Space
from e2e.scenarios.stages import saved
from e2e.scenarios.waiting import eventually
from e2e.scenarios.workers import signal_worker
from e2e.support.models import Models
from e2e.support.resources import Object, is_ready

pytestmark = pytest.mark.long

_JOBS, _NAME = "trainingjobs", "stopped"
_TRAINING_SECONDS = 10
"""Time for a checkpoint, and for one process to be stopped."""
_TIMEOUT_SECONDS = 15


@pytest.fixture(scope="module")
def stopped(space: Space, data: Data, pace: Pace) -> tuple[Object, Object]:
    """A job of which a process in pod 1 was stopped: when it had saved, and when it was done."""
    job = specs.network(_NAME, data.winter, _NAME, replicas=2, steps=pace.steps(_TRAINING_SECONDS))
    space.apply(specs.changed(job, hang={"timeoutSeconds": _TIMEOUT_SECONDS}))
    before = space.journal.wait(_JOBS, _NAME, saved, timeout=120)
    _, worker = space.gang(before)
    signal_worker(space, worker, "SIGSTOP")
    return before, space.journal.wait(_JOBS, _NAME, is_ready, timeout=240)


def test_a_gang_that_stands_still_starts_again_from_its_checkpoint(
    stopped: tuple[Object, Object], models: Models
) -> None:
    before, done = stopped
    hung, completed = done["status"]["attempts"]
    assert (hung["reason"], hung["failureClass"], completed["reason"]) == ("Hang", "Hang", "Completed")
    assert completed["resumedFromStep"] >= before["status"]["checkpoint"]["step"]
    assert done["status"]["failures"] == [{"failureClass": "Hang", "count": 1}]
    assert models.versions(_NAME) == [1]


def test_who_was_not_stopped_says_where_it_stood(stopped: tuple[Object, Object], models: Models) -> None:
    _, done = stopped
    hung, _ = done["status"]["attempts"]
    assert hung["message"].endswith(f"; stacks are at {hung['logs']}stacks/")
    assert f"after step {hung['lastStep']}, in " in hung["message"]
    stacks = models.bucket.get(_key(models, hung["logs"]) + "stacks/rank-0.txt").decode()
    assert stacks.startswith("rank 0 of 2: no step for 1")
    assert " in advance\n" in stacks, stacks


def test_logs_of_an_attempt_are_there_when_its_pods_are_gone(
    space: Space, stopped: tuple[Object, Object], models: Models
) -> None:
    _, done = stopped
    space.delete("trainingjob", _NAME)
    eventually(lambda: not space.pods(done), "pods of a deleted job are still there")
    for attempt in done["status"]["attempts"]:
        below = _key(models, attempt["logs"]) + "logs/"
        logs = {key: models.bucket.get(key).decode() for key in models.bucket.keys(below)}
        assert sorted(logs) == [f"{below}worker-0.log", f"{below}worker-1.log"]
        assert all(f"attempt {attempt['number']}\n" in text for text in logs.values()), logs
    first = _key(models, done["status"]["attempts"][0]["logs"])
    assert "no step for 1" in models.bucket.get(first + "logs/worker-0.log").decode()


def _key(models: Models, uri: str) -> str:
    return uri.removeprefix(f"{models.bucket.uri}/")
