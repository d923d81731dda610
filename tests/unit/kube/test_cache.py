import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from unittest.mock import Mock

import pytest

from modelwright.kube import cache, errors
from modelwright.kube.cache import ABSENT_SECONDS, FORGOTTEN_SECONDS, Reflector
from modelwright.kube.objects import Key, Objects
from modelwright.kube.resources import JOB, RAY_JOB
from tests.unit.kube.fake_api import Clock, child


def job(name: str, version: int) -> dict[str, Any]:
    document = child("Job", name, "owner")
    document["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": str(version)}
    # As in a list: items do not say what they are.
    return {key: value for key, value in document.items() if key not in ("apiVersion", "kind")}


class Script:
    """A client whose lists and watches are written down (a clock: quiet minutes); then it waits for ever."""

    def __init__(self, lists: Iterable[Any], watches: Iterable[Any]) -> None:
        self.lists = list(lists)
        self.watches = list(watches)
        self.watched_from: list[str] = []
        self.listed = 0
        self.done = asyncio.Event()

    async def list(self, *_: Any) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        if not self.lists:
            self.done.set()
            await asyncio.Event().wait()
        entry = self.lists.pop(0)
        if isinstance(entry, Exception):
            raise entry
        for page in entry[0]:
            yield page, entry[1]
        self.listed += 1

    async def watch(self, *arguments: Any) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        self.watched_from.append(arguments[-1])
        if not self.watches:
            self.done.set()
            await asyncio.Event().wait()
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Clock):
                event.now += 120
                continue
            yield event


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_LONGEST_PAUSE", 0.0)


async def follow(script: Script, objects: Objects, clock: Clock | None = None) -> Reflector:
    again = Mock()
    reflector = Reflector(script, JOB, None, objects, again, clock or Clock())
    task = asyncio.create_task(reflector.run())
    async with asyncio.timeout(5):
        await script.done.wait()
    task.cancel()
    assert again.call_count == max(0, script.listed - 1)
    return reflector


def names(objects: Objects) -> list[str]:
    return sorted(key.name for key in objects.keys("Job"))


async def test_a_list_in_pages_and_the_events_after_it_are_taken_in() -> None:
    objects = Objects()
    script = Script(
        [([[job("a", 1)], [job("b", 2)]], "5")],
        [[("ADDED", job("c", 6)), ("DELETED", job("a", 7)), ("MODIFIED", job("b", 8))]],
    )
    reflector = await follow(script, objects)
    assert reflector.synced.is_set()
    assert names(objects) == ["b", "c"]
    assert objects.record(Key("Job", "ns", "b")).version == 8
    assert script.watched_from == ["5", "8"]


async def test_after_its_place_is_lost_a_list_replaces_everything_and_the_lost_are_announced() -> None:
    objects = Objects()
    heard: list[Key] = []
    script = Script(
        [([[job("a", 1), job("b", 2)]], "5"), ([[job("b", 2), job("c", 9)]], "10")],
        [[errors.Expired("too old", 410)]],
    )
    objects.subscribe(lambda key, owner, by: heard.append(key))
    await follow(script, objects)
    assert names(objects) == ["b", "c"]
    assert heard.count(Key("Job", "ns", "a")) == 2


async def test_a_list_does_not_undo_a_write_that_is_newer() -> None:
    objects = Objects()
    objects.put({**child("Job", "mine", "owner"), **job("mine", 20), "kind": "Job"})
    await follow(Script([([[job("a", 1)]], "5")], []), objects)
    assert names(objects) == ["a", "mine"]


async def test_a_broken_stream_goes_on_where_it_was() -> None:
    objects = Objects()
    script = Script([([[]], "5")], [[("ADDED", job("a", 6)), errors.Unavailable("reset")], [("ADDED", job("b", 7))]])
    await follow(script, objects)
    assert script.watched_from == ["5", "6", "7"]
    assert names(objects) == ["a", "b"]


async def test_watches_that_end_at_once_are_not_begun_again_at_once_and_count_as_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache, "_LONGEST_PAUSE", 30.0)
    script, clock = Script([([[]], "5")], [[]] * 1000), Clock()
    reflector = Reflector(script, JOB, None, Objects(), Mock(), clock)
    task = asyncio.create_task(reflector.run())
    await reflector.synced.wait()
    heard = reflector.last_contact
    clock.now += 1
    await asyncio.sleep(0.1)
    task.cancel()
    assert len(script.watched_from) == 1
    assert reflector.last_contact == heard


async def test_a_quiet_watch_that_ends_when_its_time_is_over_is_begun_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache, "_LONGEST_PAUSE", 30.0)
    clock = Clock()
    script = Script([([[]], "5")], [[clock]] * 3)
    reflector = await follow(script, Objects(), clock)
    assert len(script.watched_from) == 4
    assert reflector.last_contact == clock.now


async def test_bookmarks_move_the_place_and_count_as_contact() -> None:
    objects, clock = Objects(), Clock()
    bookmark = {"metadata": {"resourceVersion": "42"}}
    script = Script([([[]], "5")], [[("BOOKMARK", bookmark)]])
    reflector = await follow(script, objects, clock)
    assert script.watched_from[-1] == "42"
    assert reflector.last_contact == clock.now
    assert names(objects) == []


async def test_an_api_server_that_is_away_is_tried_again_until_it_answers() -> None:
    objects = Objects()
    script = Script([errors.Unavailable("no"), errors.Rejected("forbidden", 403), ([[job("a", 1)]], "5")], [])
    await follow(script, objects)
    assert names(objects) == ["a"]


def fast(monkeypatch: pytest.MonkeyPatch, clock: Clock, seen: Callable[[], None] = lambda: None) -> None:
    """Let all pauses pass at once, after a look at what is so during each."""
    pause = asyncio.sleep

    async def sleep(seconds: float) -> None:
        seen()
        clock.now += seconds
        await pause(0)

    monkeypatch.setattr(cache, "_LONGEST_PAUSE", 30.0)
    monkeypatch.setattr(cache.asyncio, "sleep", sleep)


async def until_done(script: Script, reflector: Reflector) -> None:
    task = asyncio.create_task(reflector.run())
    async with asyncio.timeout(5):
        await script.done.wait()
    task.cancel()


NO_ROLE = errors.Rejected("no role", 403)


async def test_a_kind_that_another_operator_brings_is_waited_for_and_nobody_has_to_wait_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects, clock, absent = Objects(), Clock(), errors.NotFound("no such kind", 404)
    made = job("a", 1)
    script = Script([absent, ([[made]], "5"), absent, ([[]], "9")], [[errors.Expired("the kind is gone", 410)]])
    seen: list[tuple[bool, list[str]]] = []
    reflector = Reflector(script, RAY_JOB, None, objects, Mock(), clock, optional=True)
    fast(
        monkeypatch,
        clock,
        lambda: seen.append((reflector.synced.is_set(), [key.name for key in objects.keys("RayJob")])),
    )
    await until_done(script, reflector)
    # Before it was there, when its watch broke, and when the kind had been taken away again.
    assert seen == [(True, []), (True, ["a"]), (True, [])]


@pytest.mark.parametrize("how", [{"optional": True}, {"one_of_many": True}])
async def test_nobody_waits_for_what_may_not_be_seen(monkeypatch: pytest.MonkeyPatch, how: dict[str, bool]) -> None:
    clock, objects = Clock(), Objects()
    script = Script([([[job("a", 1)]], "5"), *[NO_ROLE] * 8], [[NO_ROLE]])
    reflector = Reflector(script, JOB, "ns", objects, Mock(), clock, **how)
    fast(monkeypatch, clock)
    await until_done(script, reflector)
    assert reflector.synced.is_set()
    assert clock.now - reflector.last_contact == ABSENT_SECONDS, "it is as well as can be"
    assert objects.get(Key("Job", "ns", "a")) is not None, "what was seen is not gone for that"


@pytest.mark.parametrize("how", [{}, {"optional": True}, {"one_of_many": True}])
async def test_nothing_is_decided_without_what_may_not_be_seen_for_a_moment(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, bool]
) -> None:
    """Somebody whose gangs are not seen has no room in a quota."""
    clock, objects = Clock(), Objects()
    script = Script([NO_ROLE, NO_ROLE, ([[job("a", 1)]], "5")], [])
    reflector = Reflector(script, JOB, "ns", objects, Mock(), clock, **how)
    early: list[bool] = []
    fast(monkeypatch, clock, lambda: early.append(reflector.synced.is_set()))
    before = clock.now
    await until_done(script, reflector)
    assert early == [False, False]
    assert clock.now - before < ABSENT_SECONDS
    assert reflector.synced.is_set()
    assert names(objects) == ["a"]


async def test_what_may_not_be_seen_for_minutes_holds_no_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, objects = Clock(), Objects()
    script = Script([([[job("a", 1)]], "5"), *[NO_ROLE] * 30, ([[job("a", 1)]], "5")], [[NO_ROLE]])
    reflector = Reflector(script, JOB, "ns", objects, Mock(), clock, one_of_many=True)
    known: list[tuple[float, list[str]]] = []
    fast(monkeypatch, clock, lambda: known.append((clock.now - begun, names(objects))))
    begun = clock.now
    await until_done(script, reflector)
    assert {since >= FORGOTTEN_SECONDS: jobs for since, jobs in known} == {False: ["a"], True: []}
    assert names(objects) == ["a"], "it is there again when it is seen again"
