"""What plans ask of the stores is answered in turn where much is asked for."""

import asyncio
from typing import Any

from modelwright.kube.answers import Answers
from modelwright.kube.objects import Objects
from modelwright.plan.questions import ReadDocument, ReadDocuments, Store
from tests.unit.kube.bench import STORE
from tests.unit.kube.fake_api import FakeApi


class Slow:
    """Stores that answer when they are let."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.let = asyncio.Event()

    async def call(self, store: Store, function: Any) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.let.wait()
        self.running -= 1
        return ()


async def test_many_documents_are_read_one_at_a_time_and_a_single_one_does_not_wait_for_them() -> None:
    stores = Slow()
    answers = Answers(FakeApi(), Objects(), stores)
    asked = [ReadDocuments(STORE, "monitoring/", str(at)) for at in range(3)]
    looks = [asyncio.create_task(answers.answer(question)) for question in (*asked, ReadDocument(STORE, "x.json"))]
    await asyncio.sleep(0)
    assert stores.running == 2, "one of the three, and the one that asks for little"
    stores.let.set()
    assert await asyncio.gather(*looks) == [()] * 4
    assert stores.most == 2
