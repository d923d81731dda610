"""What a process leaves behind that makes no step any more."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from modelwright.api.layout import stack_key
from modelwright.api.run import PEER_LOST, Failure
from modelwright.registry.errors import StoreError
from modelwright.registry.store import ObjectStore
from modelwright.runtime import hang
from modelwright.runtime.failure import RunError, explain, write_failure
from modelwright.runtime.hang import Process, watching
from modelwright.runtime.watchdog import Patience, Standstill, Watchdog
from tests.unit.registry.fake_s3 import FakeS3, memory_store
from tests.unit.runtime_train.runs import run_of

RUN = run_of(attempt=3)
STACKS = "base/runs/ns/uid/attempts/3/stacks/"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hang, "_LEAST_WAIT", 0.4)
    monkeypatch.setattr(hang, "_POLL_SECONDS", 0.01)


def end(tmp_path: Path, client: Any, size: int = 1, step: int | None = 1200) -> tuple[Failure, list[int]]:
    left: list[int] = []

    def store() -> ObjectStore:
        if isinstance(client, Exception):
            raise client
        return memory_store(client)

    process = Process(RUN, 0, size, store=store, message_file=tmp_path / "message", leave=left.append)
    process.end(Standstill(2.0, step))
    return Failure.model_validate_json((tmp_path / "message").read_text()), left


def test_it_says_that_it_hung_and_where_and_leaves(tmp_path: Path) -> None:
    client = FakeS3()
    failure, left = end(tmp_path, client)
    assert left == [1]
    assert (failure.reason, failure.failure_class, failure.step, failure.retryable) == ("Hang", "Hang", 1200, True)
    # The thread that makes the steps is the one that hangs; here it is also the one that looks.
    assert re.match(r"no step for 2 s after step 1200, in _where \(hang\.py:\d+\); stacks", failure.message)
    assert failure.message.endswith("; stacks are at s3://bucket/base/runs/ns/uid/attempts/3/stacks/")
    text = client.objects[STACKS + "rank-0.txt"].decode()
    assert text.startswith("rank 0 of 1: no step for 2 s after step 1200\n")
    assert "is MainThread" in text
    assert "in test_it_says_that_it_hung_and_where_and_leaves" in text


def test_before_the_first_step_there_is_none_to_name(tmp_path: Path) -> None:
    failure, _ = end(tmp_path, FakeS3(), step=None)
    assert failure.message.startswith("no step within 2 s of the start, in ")
    assert failure.step is None


def test_it_waits_for_the_stacks_of_the_others(tmp_path: Path) -> None:
    client = FakeS3()
    timer = threading.Timer(0.1, lambda: client.objects.update({STACKS + "rank-1.txt": b"there"}))
    timer.start()
    end(tmp_path, client, size=2)
    assert not timer.is_alive()
    assert set(client.objects) == {STACKS + "rank-0.txt", STACKS + "rank-1.txt"}


def test_it_does_not_wait_for_ever_for_one_that_cannot_write_any(tmp_path: Path) -> None:
    _, left = end(tmp_path, FakeS3(), size=2)
    assert left == [1]


def test_storage_that_is_down_does_not_keep_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failure, left = end(tmp_path, StoreError("no bucket"))
    assert (failure.reason, left) == ("Hang", [1])
    assert failure.message.endswith("; its log has the stacks")
    assert "could not be kept on S3: no bucket" in caplog.text


def test_what_it_does_to_others_does_not_hide_it(tmp_path: Path) -> None:
    end(tmp_path, FakeS3())
    write_failure(explain(RunError(PEER_LOST, "gone", retryable=True)), tmp_path / "message")
    assert json.loads((tmp_path / "message").read_text())["reason"] == "Hang"


def test_who_switched_it_off_is_not_watched() -> None:
    before = threading.active_count()
    with watching(run_of(hang={"enabled": False})) as watchdog:
        watchdog.beat(1)
        assert threading.active_count() == before
    with watching(run_of()):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.parametrize(("preflight", "seconds"), [({"timeoutSeconds": 3600}, 10800), ({"enabled": False}, 3600)])
def test_a_preflight_is_over_before_anybody_calls_it_a_hang(
    preflight: dict[str, Any], seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Patience] = []
    monkeypatch.setattr(hang, "Watchdog", lambda patience, *_, **__: (given.append(patience), Watchdog())[1])
    with watching(run_of(preflight=preflight)):
        pass
    assert given[0].long == seconds


HELD = """
import ctypes
from modelwright.runtime import watchdog
from modelwright.runtime.hang import watching
from tests.unit.runtime_train.runs import run_of
watchdog._TICK_SECONDS, watchdog._ARM_SECONDS, watchdog._GRACE_SECONDS = 0.05, 0.1, -9.5
with watching(run_of(hang={"timeoutSeconds": 10})) as watched:
    watched.beat(1)
    import time; time.sleep(0.3)
    ctypes.PyDLL(None).sleep(30)
"""


def test_stacks_of_a_held_interpreter_are_left_to_whoever_keeps_the_log(tmp_path: Path) -> None:
    env = {**os.environ, "MODELWRIGHT_STACKS": str(tmp_path), "RANK": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", HELD], env=env, capture_output=True, check=False, timeout=40)
    assert (done.returncode, done.stderr) == (1, b"")
    assert (tmp_path / "rank-3.txt").read_text().startswith("Timeout (0:00:00.5")


def test_stacks_have_a_file_for_each_process_of_an_attempt() -> None:
    assert stack_key("ns", "uid", 3, 0) == "runs/ns/uid/attempts/3/stacks/rank-0.txt"
