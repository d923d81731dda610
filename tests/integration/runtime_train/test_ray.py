"""A recipe under Ray: what a killed process costs, and what the driver tells of what a worker said."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from modelwright.registry.store import ObjectStore
from tests.integration.runtime_train import under_ray
from tests.integration.runtime_train.jobs import ENV, run_of, saved, trains


@pytest.mark.timeout(300)
def test_a_killed_process_starts_again_where_it_was_and_a_gang_that_is_asked_to_leave_saves(
    endpoint: str, store: ObjectStore, tmp_path: Path
) -> None:
    run = run_of(endpoint, store, epochs=100000, framework="Ray", workers={"replicas": 2})
    leaving = tmp_path / "stop"
    leaving.mkdir()
    with under_ray.gang(run, tmp_path, {**ENV, "MODELWRIGHT_STOP": str(leaving)}) as gang:
        _, before = gang.wait(partial(saved, restarts=0))
        workers = gang.workers()
        os.kill(workers[1], signal.SIGKILL)
        _, report = gang.wait(partial(trains, restarts=1))
        assert before.checkpoint is not None
        assert (report.resumed_from_step or 0) >= before.checkpoint.step
        assert not set(gang.workers().values()) & set(workers.values())
        # As the shell around Ray does when the pod gets SIGTERM.
        (leaving / "asked").touch()
        assert gang.codes(60) == [143]
        assert [path.name for path in leaving.iterdir() if path.name not in map(str, workers.values())] == ["asked"]
    said = gang.failure(0)
    assert said is not None
    assert said.reason == "Terminated"
    assert "saved at step" in said.message


@pytest.mark.timeout(300)
def test_what_a_process_says_itself_ends_the_gang_and_the_driver_tells_it(
    endpoint: str, store: ObjectStore, tmp_path: Path
) -> None:
    too_good = {"thresholds": [{"metric": "accuracy", "min": 0.9999}]}
    run = run_of(endpoint, store, epochs=1, framework="Ray", workers={"replicas": 2}, evaluation=too_good)
    with under_ray.gang(run, tmp_path, ENV) as gang:
        assert gang.codes(120) == [1]
        assert {report.restarts for _, report in gang.reports} == {0}
    said = gang.failure(0)
    assert said is not None
    assert (said.reason, said.retryable) == ("ThresholdNotMet", False)
