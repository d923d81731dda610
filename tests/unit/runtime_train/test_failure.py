import json
import logging
import pickle
from pathlib import Path

import pytest

from modelwright.api.run import PEER_LOST, TERMINATED, Failure
from modelwright.registry.errors import StoreError, Superseded
from modelwright.runtime.failure import (
    DataError,
    RunError,
    at_step,
    explain,
    forget,
    guarded,
    on_node,
    said,
    write_failure,
)


class OutOfMemoryError(RuntimeError):
    """As torch names its own, which takes seconds to import."""


def raising(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "reason", "kind", "retryable", "code"),
    [
        (DataError("ColumnNotFound", "no column x"), "ColumnNotFound", "DataError", False, 1),
        (RunError("ThresholdNotMet", "too bad", retryable=False), "ThresholdNotMet", "ApplicationError", False, 1),
        (RunError("Terminated", "asked", retryable=True, exit_code=143), "Terminated", "Infrastructure", True, 143),
        (StoreError("no bucket", retryable=False), "StorageUnavailable", "Infrastructure", False, 1),
        (Superseded("attempt 2 registers"), "Superseded", "Infrastructure", True, 1),
        (MemoryError(), "OutOfMemory", "OutOfMemory", True, 1),
        (OutOfMemoryError("CUDA out of memory. Tried"), "OutOfMemory", "OutOfMemory", True, 1),
        (RuntimeError("CUDA error: out of memory"), "OutOfMemory", "OutOfMemory", True, 1),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "TrainingError", "ApplicationError", True, 1),
        (KeyError("x"), "TrainingError", "ApplicationError", True, 1),
    ],
)
def test_what_went_wrong_is_left_for_kubernetes(
    tmp_path: Path, error: BaseException, reason: str, kind: str, retryable: bool, code: int
) -> None:
    path = tmp_path / "message"
    assert guarded(lambda: raising(error), path) == code
    written = json.loads(path.read_text())
    assert (written["reason"], written["failureClass"], written["retryable"]) == (reason, kind, retryable)


def test_the_step_of_an_error_is_told() -> None:
    error = ValueError("no")
    assert explain(error).step is None
    at_step(error, 120)
    assert explain(error).step == 120


def test_success_leaves_nothing(tmp_path: Path) -> None:
    assert guarded(lambda: None, tmp_path / "message") == 0
    assert not (tmp_path / "message").exists()


def test_a_lost_peer_never_hides_the_cause(tmp_path: Path) -> None:
    path = tmp_path / "message"
    lost = explain(RunError(PEER_LOST, "gone", retryable=True))
    write_failure(lost, path)
    assert PEER_LOST in path.read_text()
    write_failure(explain(DataError("DataInvalid", "bad")), path)
    write_failure(lost, path)
    assert "DataInvalid" in path.read_text()


def test_who_is_asked_to_stop_for_the_failure_of_another_never_hides_that(tmp_path: Path) -> None:
    path = tmp_path / "message"
    asked = explain(RunError(TERMINATED, "Asked to stop; saved at step 3", retryable=True))
    for before, after in ((PEER_LOST, TERMINATED), (TERMINATED, TERMINATED), ("DataInvalid", "DataInvalid")):
        path.write_text("")
        write_failure(explain(RunError(before, "was first", retryable=False)), path)
        write_failure(asked, path)
        assert said(path) == after
    assert "was first" in path.read_text()


def test_who_lost_a_peer_leaves_after_it_so_that_the_gang_fails_for_the_cause(tmp_path: Path) -> None:
    waits: list[tuple[float, bool]] = []
    path = tmp_path / "message"

    def pause(seconds: float) -> None:
        waits.append((seconds, path.exists()))

    guarded(lambda: raising(DataError("DataInvalid", "bad")), tmp_path / "other", pause)
    assert waits == []
    assert guarded(lambda: raising(RunError(PEER_LOST, "gone", retryable=True)), path, pause) == 1
    assert waits == [(2.0, True)]


@pytest.mark.parametrize("letter", ["x", "\n", '"', "é", "🙂", "\ud800"], ids=ascii)
def test_a_long_message_fits_the_termination_message(
    tmp_path: Path, letter: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "message"
    # Half a surrogate in a captured log cannot be told to the process that reports.
    with caplog.at_level(logging.CRITICAL + 1, logger="modelwright.runtime.failure"):
        guarded(lambda: raising(ValueError(letter * 100_000)), path)
    assert len(path.read_bytes()) <= 4096
    assert Failure.model_validate_json(path.read_bytes()).reason == "TrainingError"


def test_a_place_that_cannot_be_written_does_not_change_the_exit_code(tmp_path: Path) -> None:
    assert guarded(lambda: raising(KeyError("x")), tmp_path / "no" / "folder") == 1


@pytest.mark.parametrize(
    "error", [DataError("A", "b"), RunError("A", "b", retryable=True, exit_code=143), StoreError("b", retryable=False)]
)
def test_errors_survive_the_way_from_a_ray_worker(error: RunError | StoreError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    assert type(copy) is type(error)
    assert (str(copy), copy.retryable) == (str(error), error.retryable)


@pytest.mark.parametrize(
    "error", [RunError("PreflightFailed", "no GPU", retryable=True), DataError("DataInvalid", "no rows")]
)
def test_what_was_noted_on_an_error_is_sent_with_it(error: RunError) -> None:
    at_step(error, 7)
    on_node(error, "gpu-17")
    told = explain(pickle.loads(pickle.dumps(error)))  # noqa: S301 (our own)
    assert (told.reason, told.step, told.node) == (error.reason, 7, "gpu-17")


def test_what_was_said_is_known_and_only_what_came_to_nothing_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "message"
    assert said(path) is None
    forget({PEER_LOST}, path)
    assert not path.exists()
    write_failure(explain(RunError(PEER_LOST, "gone", retryable=True)), path)
    assert said(path) == PEER_LOST
    forget({PEER_LOST}, path)
    assert (said(path), path.read_text()) == (None, "")
    write_failure(explain(DataError("DataInvalid", "bad")), path)
    forget({PEER_LOST}, path)
    assert said(path) == "DataInvalid"


@pytest.mark.parametrize("text", ["Killed", "{}", "[1]"])
def test_words_of_others_are_a_cause_too(tmp_path: Path, text: str) -> None:
    path = tmp_path / "message"
    path.write_text(text)
    assert said(path) not in {None, PEER_LOST}
