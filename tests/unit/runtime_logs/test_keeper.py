"""When the end of a log is written, and what becomes of it where the store fails."""

import threading
import time

import pytest

from modelwright.runtime.logs import keeper
from modelwright.runtime.logs.keeper import Keeper
from modelwright.runtime.logs.tail import Tail


class Store:
    def __init__(self) -> None:
        self.puts: list[tuple[str, bytes]] = []
        self.failure: Exception | None = None
        self.tries = threading.Semaphore(0)

    def put(self, key: str, data: bytes) -> None:
        self.tries.release()
        if self.failure is not None:
            raise self.failure
        self.puts.append((key, data))

    def tried(self) -> None:
        assert self.tries.acquire(timeout=5)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def tail() -> Tail:
    return Tail(1000)


def test_it_writes_while_the_program_runs_and_what_is_new_at_its_end(
    store: Store, tail: Tail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_SECONDS", 0.02)
    kept = Keeper(tail, "log", store.put, first=0.02)
    tail.add(b"one\n")
    kept.start()
    store.tried()
    time.sleep(0.2)
    assert store.puts == [("log", b"one\n")], "nothing is new"
    tail.add(b"two\n")
    store.tried()
    tail.add(b"three\n")
    kept.finish({"stack": b"here"})
    assert store.puts[1][1].startswith(b"one\ntwo\n")
    assert store.puts[-2:] == [("log", b"one\ntwo\nthree\n"), ("stack", b"here")]


def test_a_program_that_is_asked_to_leave_has_its_log_written_at_once(store: Store, tail: Tail) -> None:
    kept = Keeper(tail, "log", store.put, first=60)
    kept.start()
    tail.add(b"leaving\n")
    kept.hurry()
    store.tried()
    kept.finish()
    assert store.puts == [("log", b"leaving\n")]


def test_a_program_that_says_nothing_leaves_nothing(store: Store, tail: Tail) -> None:
    kept = Keeper(tail, "log", store.put)
    kept.start()
    kept.finish()
    assert store.puts == []


def test_much_output_is_written_seldom(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    kept = Keeper(big := Tail(), "log", store.put)
    big.add(b"x" * 2**21)

    def wait(seconds: float | None = None) -> bool:
        waits.append(seconds)
        if len(waits) == 3:
            kept._ending.set()
        return False

    monkeypatch.setattr(kept._now, "wait", wait)
    kept._keep()
    assert waits == [10, 128, 30], "a MiB takes two minutes, nothing none"


def test_a_store_that_fails_is_told_of_once_and_written_when_it_is_back(
    store: Store, tail: Tail, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(keeper, "_SECONDS", 0.02)
    store.failure = OSError("S3 does not answer")
    kept = Keeper(tail, "log", store.put, first=0.01)
    tail.add(b"one\n")
    kept.start()
    for _ in range(3):
        store.tried()
    store.failure = None
    kept.finish()
    assert store.puts == [("log", b"one\n")]
    said = capfd.readouterr().err
    assert said == "the end of this log cannot be kept on S3, the job goes on: S3 does not answer\n"


def test_the_last_word_is_the_programs(store: Store, tail: Tail, capfd: pytest.CaptureFixture[str]) -> None:
    store.failure = ValueError("bad region")
    kept = Keeper(tail, "log", store.put)
    tail.add(b"ValueError: no\n")
    kept.start()
    kept.finish()
    assert capfd.readouterr().err == ""


def test_a_store_that_does_not_answer_holds_the_end_up_for_no_longer_than_it_may(
    tail: Tail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_LAST_SECONDS", 0.1)
    answer = threading.Event()
    kept = Keeper(tail, "log", lambda key, data: answer.wait(30) and None)
    tail.add(b"one\n")
    kept.start()
    began = time.monotonic()
    kept.finish()
    assert time.monotonic() - began < 5
    answer.set()
