import asyncio
import gc

import pytest

from modelwright.kube.turns import Turns


class Room:
    """Tasks that want turns, and stay until they are sent away."""

    def __init__(self) -> None:
        self.turns, self.inside = Turns(), []
        self.away: dict[str, asyncio.Event] = {}

    def come(self, name: str, *places: tuple[str, int]) -> asyncio.Task[None]:
        self.away[name] = asyncio.Event()
        return asyncio.create_task(self._stay(name, places))

    async def _stay(self, name: str, places: tuple[tuple[str, int], ...]) -> None:
        await self.turns.take(*places)
        self.inside.append(name)
        await self.away[name].wait()
        await self.turns.take(*places)
        self.inside.remove(name)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_so_many_have_a_turn_until_they_end_and_the_others_come_in_their_order() -> None:
    room = Room()
    tasks = [room.come(name, ("server", 2)) for name in "abcd"]
    await settle()
    assert room.inside == ["a", "b"]
    room.away["b"].set()
    await settle()
    assert room.inside == ["a", "c"]
    for leaving in room.away.values():
        leaving.set()
    await asyncio.gather(*tasks)
    assert room.inside == []


async def test_what_a_place_is_full_of_holds_nobody_up_elsewhere() -> None:
    room = Room()
    tasks = [room.come(name, (place, 1), ("all", 3)) for name, place in (("a", "x"), ("b", "x"), ("c", "y"))]
    await settle()
    assert room.inside == ["a", "c"]
    for leaving in room.away.values():
        leaving.set()
    await asyncio.gather(*tasks)


async def test_who_gives_up_waiting_leaves_the_turn_to_the_next() -> None:
    room = Room()
    first, second, third = (room.come(name, ("server", 1)) for name in "abc")
    await settle()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    room.away["a"].set()
    await settle()
    assert room.inside == ["c"]
    room.away["c"].set()
    await asyncio.gather(first, third)


async def test_a_place_where_nobody_is_is_forgotten() -> None:
    room = Room()
    tasks = [room.come(name, (f"server of {name}", 1)) for name in "abc"]
    for leaving in room.away.values():
        leaving.set()
    await asyncio.wait(tasks)
    del tasks
    await settle()
    gc.collect()
    assert not room.turns._places
