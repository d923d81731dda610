import base64
import threading
from typing import Any

import pytest

from modelwright.api.run import ResolvedStorage
from modelwright.kube import errors, stores
from modelwright.kube.stores import Stores
from modelwright.plan.questions import Store
from modelwright.registry.errors import StoreError
from modelwright.registry.store import Credentials
from tests.unit.kube.fake_api import Clock, FakeApi

OWN = Store(ResolvedStorage(uri="s3://bucket"), "ns", None)
KEYED = Store(ResolvedStorage(uri="s3://bucket"), "ns", "keys")


def secret(**data: str) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "ns"}, "data": encoded}


class Shop:
    def __init__(self) -> None:
        self.api, self.clock = FakeApi(), Clock()
        self.opened: list[Credentials | None] = []
        self.stores = Stores(self.api, self._open, self.clock)

    def _open(self, storage: ResolvedStorage, credentials: Credentials | None) -> str:
        self.opened.append(credentials)
        return f"store {len(self.opened)}"


async def test_calls_run_in_threads_on_a_store_that_is_opened_once() -> None:
    shop = Shop()
    seen = [await shop.stores.call(OWN, lambda store: (store, threading.current_thread().name)) for _ in range(2)]
    assert [store for store, _ in seen] == ["store 1", "store 1"]
    assert all(name.startswith("s3") for _, name in seen)
    assert shop.opened == [None]


async def test_credentials_come_from_the_secret_and_are_read_again_after_a_minute() -> None:
    shop = Shop()
    shop.api.add(secret(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="one\n"))
    await shop.stores.call(KEYED, str)
    await shop.stores.call(KEYED, str)
    assert len(shop.api.calls) == 1
    shop.api.add(secret(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="two"))
    shop.clock.now += 61
    assert await shop.stores.call(KEYED, str) == "store 2"
    assert shop.opened == [Credentials("id", "one"), Credentials("id", "two")]


async def test_a_missing_secret_or_key_is_named() -> None:
    shop = Shop()
    with pytest.raises(StoreError, match="Secret ns/keys does not exist"):
        await shop.stores.call(KEYED, str)
    shop.api.add(secret(AWS_ACCESS_KEY_ID="id"))
    with pytest.raises(StoreError, match=r"Secret ns/keys has no key AWS_SECRET_ACCESS_KEY$"):
        await shop.stores.call(KEYED, str)
    shop.api.fail = lambda verb, kind, name: errors.Rejected("forbidden", 403)
    with pytest.raises(StoreError, match="cannot be read: forbidden"):
        await shop.stores.call(KEYED, str)


async def test_after_a_failure_nobody_waits_for_the_store_for_a_moment() -> None:
    shop = Shop()
    calls = []

    def failing(store: Any) -> None:
        calls.append(store)
        raise StoreError("no answer")

    for _ in range(3):
        with pytest.raises(StoreError, match="no answer"):
            await shop.stores.call(OWN, failing)
    assert len(calls) == 1
    shop.clock.now += 6
    assert await shop.stores.call(OWN, str) == "store 1"


async def test_an_answer_that_is_no_is_not_a_failure_of_the_store() -> None:
    shop = Shop()

    def refused(store: Any) -> None:
        raise StoreError("access denied", retryable=False)

    with pytest.raises(StoreError):
        await shop.stores.call(OWN, refused)
    assert await shop.stores.call(OWN, str) == "store 1"


async def test_a_store_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_SECONDS", 0.05)
    shop, gate = Shop(), threading.Event()
    with pytest.raises(StoreError, match="does not answer"):
        await shop.stores.call(OWN, lambda store: gate.wait(5))
    gate.set()
    shop.stores.close()
