import asyncio

import pytest

from modelwright.kube import errors, rollcall
from modelwright.kube.cache import SHUT_OUT_SECONDS
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Key, Objects
from modelwright.kube.rollcall import PERIOD_SECONDS, RollCall
from tests.unit.kube.fake_api import Clock, FakeApi, count, training_job

KEY = Key("TrainingJob", "ns", "a")


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api, self.objects, self.metrics, self.clock = FakeApi(), Objects(), Metrics(), Clock()
        self.roll = RollCall(self.api, self.objects, self.metrics, (None,), self.clock)
        self.sleeps = 0
        self.later: list = []
        monkeypatch.setattr(rollcall.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        self.clock.now += seconds
        if self.later:
            self.later.pop(0)()

    async def pause(self) -> None:
        """Pass over the time between two roll calls."""
        self.clock.now += PERIOD_SECONDS

    def repairs(self) -> float:
        return count(self.metrics, "modelwright_watch_repairs_total", kind="TrainingJob")


async def run_rounds(world: World, rounds: int) -> None:
    """Let the roll be called so often."""
    calls = 0
    world.roll._pause = world.pause
    original = world.roll._call

    async def counted() -> bool:
        nonlocal calls
        calls += 1
        if calls > rounds:
            raise asyncio.CancelledError
        return await original()

    world.roll._call = counted
    with pytest.raises(asyncio.CancelledError):
        await world.roll.run()
    world.roll._call = original


async def test_it_is_complete_when_the_watch_has_told_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    shown = world.api.add(training_job())
    world.later = [lambda: None, lambda: world.objects.put(shown)]
    await world.roll.complete()
    assert world.sleeps == 2
    assert world.repairs() == 0


async def test_an_api_server_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    failures = [errors.Unavailable("down"), errors.NotFound("no CRD", 404)]
    world.api.fail = lambda verb, kind, name: failures.pop() if failures else None
    await world.roll.complete()
    assert failures == []


async def test_what_the_watch_never_tells_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.objects.put(world.api.add(training_job()))
    world.api.add(training_job(epochs=2))
    await run_rounds(world, 1)
    assert world.objects.get(KEY)["spec"] == {"epochs": 2}
    assert world.repairs() == 1
    assert not world.roll.deaf


async def test_a_missed_deletion_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.objects.put(world.api.add(training_job()))
    del world.api.objects[KEY]
    await run_rounds(world, 1)
    assert world.objects.get(KEY) is None
    assert world.repairs() == 1


async def test_news_that_are_only_late_are_no_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.objects.put(world.api.add(training_job()))
    del world.api.objects[KEY]
    world.later = [lambda: world.objects.remove(KEY, "uid-a")]
    await run_rounds(world, 1)
    assert world.repairs() == 0


async def test_what_is_gone_by_the_time_it_is_fetched_is_no_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.api.add(training_job())
    world.later = [world.api.objects.clear]
    await run_rounds(world, 1)
    assert world.repairs() == 0
    assert not world.roll.deaf


async def test_a_watch_that_misses_changes_twice_in_a_row_is_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    for number in range(2):
        world.api.add(training_job(epochs=number))
        assert not world.roll.deaf
        await run_rounds(world, 1)
    assert world.roll.deaf
    await run_rounds(world, 1)
    assert not world.roll.deaf


def test_without_a_roll_call_for_long_nobody_knows_whether_the_watch_is_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.clock.now += 3 * PERIOD_SECONDS + 1
    assert world.roll.deaf


async def test_a_list_of_any_watch_leads_to_a_roll_call_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollcall, "_RETRY_SECONDS", 0.0)
    world = RollCall(FakeApi(), Objects(), Metrics(), (None,))
    before = world.last_call
    running = asyncio.create_task(world.run())
    await asyncio.sleep(0)
    world.soon()
    async with asyncio.timeout(5):
        while world.last_call == before:  # noqa: ASYNC110 (a few turns of the loop)
            await asyncio.sleep(0.01)
    running.cancel()


async def test_a_namespace_that_may_not_be_seen_does_not_keep_the_others_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    world.objects.put(world.api.add(training_job()))

    def roll(*namespaces: str) -> RollCall:
        return RollCall(world.api, world.objects, world.metrics, namespaces, world.clock)

    world.api.shut = frozenset({"gone"})
    await roll("ns", "gone").complete()
    assert world.sleeps * rollcall._RETRY_SECONDS == SHUT_OUT_SECONDS
    with pytest.raises(errors.Rejected):
        await roll("gone")._call()


async def test_a_first_view_waits_for_a_namespace_that_is_shut_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    shown = world.api.add(training_job())
    world.api.shut = frozenset({"ns"})

    def open_it() -> None:
        world.api.shut = frozenset()
        world.objects.put(shown)

    world.later = [open_it]
    await RollCall(world.api, world.objects, world.metrics, ("a", "ns"), world.clock).complete()
    assert world.objects.get(KEY) is not None


async def test_a_namespace_that_may_not_be_seen_for_minutes_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.objects.put(world.api.add(training_job()))
    world.roll = RollCall(world.api, world.objects, world.metrics, ("other", "ns"), world.clock)
    world.api.shut = frozenset({"ns"})
    await run_rounds(world, 1)
    assert world.objects.get(KEY) is not None
    await run_rounds(world, 1)
    assert world.objects.get(KEY) is None
    assert not world.roll.deaf
    world.api.shut = frozenset()
    await run_rounds(world, 1)
    assert world.objects.get(KEY) is not None
