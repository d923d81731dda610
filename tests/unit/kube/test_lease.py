import asyncio

import pytest

from modelwright.kube import errors
from modelwright.kube.lease import Election, LostError, Timing
from modelwright.kube.objects import Key
from tests.unit.kube.fake_api import Clock, FakeApi

LEASE = Key("Lease", "system", "modelwright")
TIMING = Timing(duration=15, deadline=10, period=0.0)


class Race:
    """Two candidates, one API server, one clock."""

    def __init__(self) -> None:
        self.api, self.clock = FakeApi(), Clock()
        self.a, self.b = (
            Election(self.api, "system", "modelwright", f"{name}_10.0.0.{name}", TIMING, self.clock) for name in "12"
        )

    def spec(self) -> dict:
        return self.api.objects[LEASE]["spec"]


async def briefly(election: Election) -> bool:
    """Tell whether a candidate gets the Lease in a few tries."""
    try:
        async with asyncio.timeout(0.02):
            await election.acquire()
    except TimeoutError:
        return False
    return True


async def test_the_first_one_leads_and_the_second_one_waits() -> None:
    race = Race()
    assert await briefly(race.a)
    assert not await briefly(race.b)
    assert (race.a.leading, race.b.leading) == (True, False)
    assert race.b.holder == "1_10.0.0.1"
    race.a.check()
    with pytest.raises(LostError):
        race.b.check()


async def test_a_lease_that_is_not_renewed_is_taken_after_its_duration_and_not_before() -> None:
    race = Race()
    await race.a.acquire()
    assert not await briefly(race.b)
    race.clock.now += 14.9
    assert not await briefly(race.b)
    race.clock.now += 0.2
    assert not race.a.leading
    assert await briefly(race.b)
    assert race.spec()["holderIdentity"] == "2_10.0.0.2"
    assert race.spec()["leaseTransitions"] == 1


async def test_never_do_both_believe_to_lead() -> None:
    race = Race()
    await race.a.acquire()
    await briefly(race.b)
    for _ in range(40):
        race.clock.now += 1
        await briefly(race.b)
        assert not (race.a.leading and race.b.leading)
    assert race.b.leading


async def test_a_released_lease_is_taken_at_once() -> None:
    race = Race()
    await race.a.acquire()
    await race.a.release()
    assert not race.a.leading
    assert await briefly(race.b)


async def test_who_does_not_lead_releases_nothing() -> None:
    race = Race()
    await race.a.acquire()
    await race.b.release()
    assert race.spec()["holderIdentity"] == "1_10.0.0.1"


async def test_a_leader_whose_lease_was_taken_learns_it() -> None:
    race = Race()
    await race.a.acquire()
    await briefly(race.b)
    race.clock.now += 16
    await race.b.acquire()
    with pytest.raises(LostError, match="taken by 2_"):
        await race.a.keep()


async def test_a_leader_that_cannot_renew_gives_up_before_another_may_take_over() -> None:
    race = Race()
    await race.a.acquire()

    def failing(verb: str, kind: str, name: str) -> Exception:
        race.clock.now += 1
        return errors.Unavailable("down")

    begun = race.clock.now
    race.api.fail = failing
    with pytest.raises(LostError, match="could not be renewed"):
        await race.a.keep()
    assert race.clock.now - begun < TIMING.duration
    assert not race.a.leading


async def test_a_race_for_a_new_lease_has_one_winner() -> None:
    race = Race()
    won = await asyncio.gather(briefly(race.a), briefly(race.b))
    assert sorted(won) == [False, True]


async def test_an_api_server_that_is_down_when_releasing_is_no_error() -> None:
    race = Race()
    await race.a.acquire()
    race.api.fail = lambda verb, kind, name: errors.Unavailable("down")
    await race.a.release()
    assert not race.a.leading
