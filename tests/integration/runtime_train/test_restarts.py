"""Two pods' agents and their processes, of which one is killed, or has something to say."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.support.agents import LocalGang, local_gang
from modelwright.api import layout
from modelwright.api.run import TrainingResult
from modelwright.registry.store import ObjectStore
from tests.integration.runtime_train import members
from tests.integration.runtime_train.jobs import ENV, run_of, saved, trains


@contextmanager
def started(
    endpoint: str, store: ObjectStore, folder: Path, *, epochs: int, pods: int = 2, rows: int = 400, **spec: Any
) -> Iterator[LocalGang]:
    processes = 2 // pods
    workers = {"replicas": pods, "processesPerNode": processes}
    run = run_of(endpoint, store, epochs=epochs, rows=rows, workers=workers, **spec)
    with local_gang(run, folder, ENV, restarts=2, pods=pods, processes=processes, start=members.agent) as gang:
        yield gang


@contextmanager
def evaluating(endpoint: str, store: ObjectStore, folder: Path, rows: int = 200_000) -> Iterator[tuple[LocalGang, int]]:
    """Yield a gang that has trained, and the process of rank 0, which has just begun to evaluate."""
    with started(endpoint, store, folder, epochs=1, rows=rows) as gang:
        # It is the same one from its first report on. Evaluating takes a tenth of a second, and the report of the
        # checkpoint before that may be heard when all is done.
        gang.wait(lambda _: True)
        process = gang.workers()[0]
        gang.wait(lambda report: report.checkpoint is not None)
        await_words(folder / "log-0", "evaluating")
        yield gang, process


def await_words(log: Path, words: str) -> None:
    deadline = time.monotonic() + 120
    while words not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.timeout(500)  # eight processes, and each imports torch
def test_whichever_process_is_killed_all_start_again_in_their_pods(
    endpoint: str, store: ObjectStore, tmp_path: Path
) -> None:
    with started(endpoint, store, tmp_path, epochs=100000) as gang:
        for count, rank in enumerate((1, 0)):
            _, before = gang.wait(partial(saved, restarts=count))
            workers, killed = gang.workers(), time.monotonic()
            os.kill(workers[rank], signal.SIGKILL)
            when, report = gang.wait(partial(trains, restarts=count + 1))
            assert before.checkpoint is not None
            assert (report.resumed_from_step or 0) >= before.checkpoint.step
            assert when - killed < 120, "there is nothing to import"
            assert set(gang.workers()) == {0, 1}
            assert not set(gang.workers().values()) & set(workers.values())
            assert [gang.failure(index) for index in range(2)] == [None, None], "what came to nothing is taken back"
        # And SIGTERM to one pod still makes both of them save and leave.
        gang.agents[1].send_signal(signal.SIGTERM)
        assert 0 not in gang.codes(60)
    said = [gang.failure(index) for index in range(2)]
    assert [each.reason for each in said if each is not None] == ["Terminated", "Terminated"]


@pytest.mark.timeout(300)
def test_processes_of_one_pod_start_again_together(endpoint: str, store: ObjectStore, tmp_path: Path) -> None:
    with started(endpoint, store, tmp_path, epochs=100000, pods=1) as gang:
        gang.wait(partial(saved, restarts=0))
        # torchrun asks the one beside it to leave, as when the pod is asked.
        os.kill(gang.workers()[1], signal.SIGKILL)
        _, report = gang.wait(partial(trains, restarts=1))
        assert report.resumed_from_step
        assert gang.failure(0) is None
        gang.agents[0].send_signal(signal.SIGTERM)
        assert 0 not in gang.codes(60)
    said = gang.failure(0)
    assert said is not None
    assert said.reason == "Terminated"


def parent(process: int) -> int:
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("PPid:")]
    return int(line.split()[1])


def runs(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.timeout(300)
def test_processes_start_again_when_the_spare_that_they_came_from_is_killed(
    endpoint: str, store: ObjectStore, tmp_path: Path
) -> None:
    with started(endpoint, store, tmp_path, epochs=100000, pods=1) as gang:
        gang.wait(partial(saved, restarts=0))
        os.kill(parent(gang.workers()[0]), signal.SIGKILL)
        _, report = gang.wait(partial(trains, restarts=1))
        assert report.resumed_from_step
        assert gang.failure(0) is None


@pytest.mark.timeout(300)
def test_nothing_goes_on_when_the_agent_is_killed(endpoint: str, store: ObjectStore, tmp_path: Path) -> None:
    with started(endpoint, store, tmp_path, epochs=100000, pods=1) as gang:
        gang.wait(partial(saved, restarts=0))
        ranks = gang.workers().values()
        processes = {*ranks, *map(parent, ranks)}
        os.kill(gang.agents[0].pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(map(runs, processes)):
            assert time.monotonic() < deadline, "under Ray, the pod of such an actor goes on"
            time.sleep(0.05)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pods", [1, 2])
def test_what_a_process_says_itself_ends_all_pods_at_once(
    endpoint: str, store: ObjectStore, tmp_path: Path, pods: int
) -> None:
    too_good = {"thresholds": [{"metric": "accuracy", "min": 0.9999}]}
    with started(endpoint, store, tmp_path, epochs=1, evaluation=too_good, pods=pods) as gang:
        # Rank 0 alone finds that, while the other waits for it.
        assert 0 not in gang.codes(120)
        assert {report.restarts for _, report in gang.reports} == {0}
    first = gang.failure(0)
    assert first is not None
    assert first.reason == "ThresholdNotMet"


@pytest.mark.timeout(400)
def test_who_has_trained_is_there_when_rank_0_is_killed_while_it_evaluates(
    endpoint: str, store: ObjectStore, tmp_path: Path
) -> None:
    with evaluating(endpoint, store, tmp_path, rows=1_000_000) as (gang, process):
        os.kill(process, signal.SIGKILL)
        assert gang.codes(150) == [0, 0]
        assert gang.reports[-1][1].restarts == 1
    result = store.read_document(layout.result_key("ns", "a"), TrainingResult)
    assert result is not None
    assert result.model is not None
    assert result.model.version == 1


@pytest.mark.timeout(400)
def test_who_is_done_and_waits_for_a_pod_that_was_lost_leaves_when_it_is_asked_to(
    endpoint: str, store: ObjectStore, tmp_path: Path
) -> None:
    with evaluating(endpoint, store, tmp_path) as (gang, _):
        gang.lose(1)
        await_words(tmp_path / "log-0", "registered m version 1")
        time.sleep(2)
        assert gang.agents[0].poll() is None, "the other one may still need what it keeps"
        gang.agents[0].send_signal(signal.SIGTERM)
        assert gang.agents[0].wait(20) == 0, "its work is done"


@pytest.mark.timeout(400)
def test_a_process_that_is_killed_when_all_is_done_fails_nothing(
    endpoint: str, store: ObjectStore, tmp_path: Path
) -> None:
    with evaluating(endpoint, store, tmp_path) as (gang, process):
        await_words(tmp_path / "log-0", "registered m version 1")
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        assert gang.codes(60) == [0, 0]
