"""Attempts of one job that are alive at the same time: one was given up with a node that could not confirm its end."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api import layout
from modelwright.api.artifacts import Registration
from modelwright.registry.errors import Superseded
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import (
    Writer,
    fetch_version,
    find_registered,
    list_versions,
    read_manifest,
    register,
    take_number,
)
from tests.unit.registry.fake_s3 import FakeS3, memory_store

FIRST, SECOND = Writer(1), Writer(2, unconfirmed=1)


def write(store: ObjectStore, folder: Path, writer: Writer) -> int:
    """Register what an attempt has made: two files, of which it can be told who wrote them."""
    directory = folder / f"{writer.attempt}-{writer.unconfirmed}"
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "weights.safetensors"):
        (directory / name).write_text(f"{name} of {writer}")
    at = "2026-11-23T10:00:00Z"
    made = register(store, model="m", namespace="ns", job_uid="a", directory=directory, created=at, writer=writer)
    return made.version


def whole_versions(store: ObjectStore, folder: Path) -> dict[int, str]:
    """Return who wrote each version that has a manifest. Raises CorruptVersion where one is not what that says."""
    found = {}
    for number in list_versions(store, "m"):
        if read_manifest(store, "m", number) is not None:
            fetch_version(store, "m", number, folder / f"copy-{number}")
            (who,) = {path.read_text().partition(" of ")[2] for path in (folder / f"copy-{number}").iterdir()}
            found[number] = who
    return found


@pytest.mark.parametrize("key", ["model.onnx", "weights.safetensors", "manifest.json"])
def test_who_lives_on_with_a_number_writes_into_that_and_into_no_other(
    client: FakeS3, store: ObjectStore, tmp_path: Path, key: str
) -> None:
    later: list[int] = []
    client.before_put[f"base/models/m/versions/1/{key}"] = lambda: later.append(write(store, tmp_path, SECOND))
    assert write(store, tmp_path, FIRST) == 1
    assert later == [2]
    assert whole_versions(store, tmp_path) == {1: str(FIRST), 2: str(SECOND)}
    found = find_registered(store, "ns", "a")
    assert found is not None
    assert found.version == 2


def test_who_has_no_number_yet_when_a_later_attempt_registers_writes_nothing(
    client: FakeS3, store: ObjectStore, tmp_path: Path
) -> None:
    write(store, tmp_path, SECOND)
    before = dict(client.objects)
    with pytest.raises(Superseded, match=r"attempt 2 .* registers version 1 of m, and attempt 1 .* writes nothing"):
        write(store, tmp_path, FIRST)
    assert client.objects == before


def test_who_loses_its_number_before_it_has_written_a_file_writes_none(store: ObjectStore, tmp_path: Path) -> None:
    assert take_number(store, "m", "ns", "a", FIRST) == 1
    assert take_number(store, "m", "ns", "a", SECOND) == 2
    with pytest.raises(Superseded):
        write(store, tmp_path, FIRST)
    assert whole_versions(store, tmp_path) == {}
    assert write(store, tmp_path, SECOND) == 2


def test_an_attempt_that_was_seen_to_end_leaves_its_number_to_the_next(store: ObjectStore, tmp_path: Path) -> None:
    assert take_number(store, "m", "ns", "a", FIRST) == 1
    assert take_number(store, "m", "ns", "a", Writer(2)) == 1
    # The second one was cut off, the third one has ended, and what it took is free.
    assert take_number(store, "m", "ns", "a", Writer(3, unconfirmed=2)) == 2
    assert write(store, tmp_path, Writer(4, unconfirmed=2)) == 2


def test_a_number_that_an_older_version_of_this_software_took_is_used(store: ObjectStore) -> None:
    store.write_json(layout.registration_key("ns", "a"), {"model": "m", "version": 7})
    assert take_number(store, "m", "ns", "a", Writer(2)) == 7
    assert take_number(store, "m", "ns", "a", Writer(3, unconfirmed=2)) == 1, "who took it may be alive"


def test_an_attempt_that_begins_again_under_its_number_is_later_than_what_is_left_of_it(store: ObjectStore) -> None:
    assert take_number(store, "m", "ns", "a", Writer(1)) == 1
    assert take_number(store, "m", "ns", "a", Writer(1, unconfirmed=1)) == 2
    with pytest.raises(Superseded):
        take_number(store, "m", "ns", "a", Writer(1))


def test_a_lost_answer_to_a_takeover_is_not_taken_for_a_rival(client: FakeS3, store: ObjectStore) -> None:
    take_number(store, "m", "ns", "a", FIRST)
    client.lose_answer_of.add("base/runs/ns/a/registration.json")
    assert take_number(store, "m", "ns", "a", SECOND) == 2


def test_usual_registration_asks_the_store_for_no_more_than_before(client: FakeS3, store: ObjectStore) -> None:
    asked: list[str] = []
    original = client.get_object

    def noted(**request: str) -> dict[str, Any]:
        asked.append(request["Key"])
        return original(**request)

    client.get_object = noted  # type: ignore[method-assign, assignment]
    for attempt in (1, 2):
        take_number(store, "m", "ns", "a", Writer(attempt))
    assert asked == ["base/runs/ns/a/registration.json"] * 2
    assert store.read_document(layout.registration_key("ns", "a"), Registration) == Registration(
        model="m", version=1, attempt=1
    )


class DiedError(Exception):
    """An attempt was killed."""


class Turns:
    """Lets attempts call S3 one at a time, in an order that is given."""

    def __init__(self) -> None:
        self.client = FakeS3()
        self.outcomes: dict[int, int | Exception] = {}
        self._moved = threading.Condition()
        self._turn: int | None = None
        self._threads: dict[int, threading.Thread] = {}
        self._doomed: set[int] = set()

    def begin(self, attempt: int, work: Callable[[ObjectStore], int]) -> None:
        """Have an attempt do its work, as far as its turns go."""

        def run() -> None:
            try:
                self.outcomes[attempt] = work(memory_store(_Seat(self, attempt)))
            except Exception as error:  # noqa: BLE001 (for the test to judge)
                self.outcomes[attempt] = error
            with self._moved:
                self._turn = None
                self._moved.notify_all()

        self._threads[attempt] = threading.Thread(target=run, daemon=True)
        self._threads[attempt].start()

    def wait(self, attempt: int) -> None:
        """Wait for the turn of an attempt, before each of its calls. Raises DiedError."""
        with self._moved:
            if self._turn == attempt:
                self._turn = None
                self._moved.notify_all()
            self._moved.wait_for(lambda: self._turn == attempt)
            if attempt in self._doomed:
                raise DiedError

    def next(self, attempt: int) -> None:
        """Let an attempt do its next call, if it has not ended, and come to the one after that."""
        with self._moved:
            if attempt in self.outcomes:
                return
            self._turn = attempt
            self._moved.notify_all()
            self._moved.wait_for(lambda: self._turn is None)

    def end(self, attempt: int, *, kill: bool = False) -> None:
        """Let an attempt come to its end, or die where it is."""
        if kill:
            self._doomed.add(attempt)
        while attempt not in self.outcomes:
            self.next(attempt)
        self._threads[attempt].join()


class _Seat:
    """The client of one attempt."""

    def __init__(self, turns: Turns, attempt: int) -> None:
        self._turns, self._attempt = turns, attempt

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            self._turns.wait(self._attempt)
            return getattr(self._turns.client, name)(*args, **named)

        return call


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 12), st.lists(st.booleans(), max_size=30))
def test_whatever_two_attempts_do_in_whatever_order_no_version_is_a_mixture(
    tmp_path_factory: pytest.TempPathFactory, early: list[bool], until: int, late: list[bool]
) -> None:
    """The first lives on beside the second, which dies, and then beside the third, which ends its work."""
    folder, turns = tmp_path_factory.mktemp("attempts"), Turns()
    third = Writer(3, unconfirmed=1)
    turns.begin(1, lambda store: write(store, folder, FIRST))
    turns.begin(2, lambda store: write(store, folder, SECOND))
    for first in early[:until]:
        turns.next(1 if first else 2)
    turns.end(2, kill=True)
    turns.begin(3, lambda store: write(store, folder, third))
    for first in late:
        turns.next(1 if first else 3)
    turns.end(3)
    turns.end(1)
    store = memory_store(turns.client)
    made = whole_versions(store, folder)
    version = turns.outcomes[3]
    assert isinstance(version, int), version
    assert not isinstance(turns.outcomes[1], Exception) or isinstance(turns.outcomes[1], Superseded)
    assert made[version] in (str(third), str(SECOND)), "what the second one completed is kept"
    found = find_registered(store, "ns", "a")
    assert found is not None
    assert found.version == version
