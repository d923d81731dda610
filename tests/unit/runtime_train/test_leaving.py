"""What a run that is asked to stop leaves behind."""

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from modelwright.api.run import TERMINATED
from modelwright.api.variables import STOP_VARIABLE
from modelwright.runtime.failure import EXIT_TERMINATED
from modelwright.runtime.train.stop import Stop, ask, leave, withdraw
from modelwright.runtime.train.world import World


def test_a_process_that_is_killed_while_it_saves_has_said_that_it_did_not_fit(tmp_path: Path) -> None:
    message = tmp_path / "termination-log"
    message.touch()
    found: list[dict[str, object]] = []

    def save() -> bool:
        found.append(json.loads(message.read_text()))
        return True

    leave(40, World(), save, message)
    (said,) = found
    assert (said["reason"], said["step"], said["retryable"]) == (TERMINATED, 40, True)
    assert "did not fit into the grace period: raise checkpoint.graceSeconds" in str(said["message"])


def test_the_error_to_leave_with_tells_whether_it_was_saved(tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    saved, lost = (leave(40, World(), lambda outcome=outcome: outcome, nowhere) for outcome in (True, False))
    assert (saved.message, saved.exit_code) == ("Asked to stop; saved at step 40", EXIT_TERMINATED)
    assert lost.message == "Asked to stop; step 40 could not be saved"
    assert not nowhere.exists(), "only a pod has a termination message"


def test_a_forked_child_ends_when_it_is_told_to_though_its_parent_would_save_first() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop = Stop()
    stop.listen()
    try:
        fork = multiprocessing.get_context("fork")
        here, there = fork.Pipe()
        child = fork.Process(target=lambda: (there.send("begun"), time.sleep(60)))
        child.start()
        assert here.recv() == "begun"
        child.terminate()
        child.join(30)
        assert child.exitcode == -signal.SIGTERM
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    finally:
        signal.signal(signal.SIGTERM, before)


def in_a_thread(stop: Stop) -> None:
    """Listen as training does under Ray."""
    thread = threading.Thread(target=stop.listen)
    thread.start()
    thread.join()


def test_where_no_signal_comes_it_says_that_it_listens_and_is_asked_by_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STOP_VARIABLE, str(tmp_path))
    stop = Stop()
    in_a_thread(stop)
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]
    assert not stop.requested
    (tmp_path / "asked").touch()
    assert stop.requested
    withdraw()
    withdraw()
    assert [path.name for path in tmp_path.iterdir()] == ["asked"]


@pytest.mark.parametrize("folder", [None, "/nonexistent/folder"])
def test_where_nobody_asks_by_files_it_is_not_asked(folder: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STOP_VARIABLE, raising=False)
    if folder is not None:
        monkeypatch.setenv(STOP_VARIABLE, folder)
    stop = Stop()
    in_a_thread(stop)
    assert not stop.requested
    withdraw()


def test_a_driver_asks_those_who_save_in_its_pod_and_knows_when_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STOP_VARIABLE, raising=False)
    assert not ask()
    monkeypatch.setenv(STOP_VARIABLE, str(tmp_path))
    assert not ask(), "nobody has said that it saves"
    (tmp_path / "asked").unlink()
    stop = Stop()
    in_a_thread(stop)
    assert ask()
    assert stop.requested
    withdraw()
    assert not ask()
