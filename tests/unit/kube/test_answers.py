"""What plans ask of the stores is answered in turn where much is asked for."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from modelwright.api.run import ResolvedStorage
from modelwright.kube.answers import Answers
from modelwright.kube.objects import Objects
from modelwright.kube.stores import Stores
from modelwright.plan.questions import ReadDocument, ReadDocuments, Store, Unavailable
from modelwright.registry.errors import UnreadableDocument
from tests.unit.kube.fake_api import FakeApi


class S3:
    """A store that notes who is at what, and answers together with another one."""

    def __init__(self) -> None:
        self.together = threading.Barrier(2, timeout=20)
        self.parsing = self.most = 0

    def fetch_jsons(self, prefix: str, after: str) -> Callable[[], Any]:
        self.together.wait()
        return self._parse

    def fetch_json(self, key: str, heaviest: int) -> Callable[[], Any]:
        return self.fetch_jsons(key, "")

    def read_json(self, key: str, heaviest: int) -> dict[str, Any]:
        raise UnreadableDocument(f"{key} may take {heaviest}", retryable=False)

    def _parse(self) -> tuple[()]:
        self.parsing += 1
        self.most = max(self.most, self.parsing)
        return ()


def answers(s3: S3) -> Answers:
    return Answers(FakeApi(), Objects(), Stores(FakeApi(), lambda _: True, lambda storage, credentials: s3))


async def test_what_may_fill_the_memory_is_fetched_side_by_side_and_held_one_at_a_time() -> None:
    s3 = S3()
    asked = answers(s3)

    async def look(namespace: str, windows: bool) -> None:
        store = Store(ResolvedStorage(uri="s3://bucket/x"), namespace, None)
        question = ReadDocuments(store, "monitoring/", "") if windows else ReadDocument(store, "runs/ns/uid/sweep.json")
        assert await asked.answer(question) == ()
        # A plan works with it.
        await asyncio.sleep(0)
        s3.parsing -= 1

    await asyncio.gather(look("a", windows=True), look("b", windows=False))
    assert s3.most == 1


async def test_a_document_may_take_what_its_kind_takes() -> None:
    store = Store(ResolvedStorage(uri="s3://bucket/x"), "ns", None)
    asked = answers(S3())
    for key, most in (("models/m/aliases/champion.json", 4 * 2**20), ("m/versions/1/reference.json", 32 * 2**20)):
        assert await asked.answer(ReadDocument(store, key)) == Unavailable(f"{key} may take {most}")
