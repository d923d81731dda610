import asyncio
import base64
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from modelwright.api.run import ResolvedStorage
from modelwright.kube import errors, stores
from modelwright.kube.objects import Key
from modelwright.kube.queue import Outcome, Queue
from modelwright.kube.stores import Stores, at_or_below
from modelwright.kube.turns import Busy
from modelwright.plan.questions import Store
from modelwright.registry.errors import NoAnswer, StoreError
from modelwright.registry.store import Credentials
from tests.unit.kube.fake_api import Clock, FakeApi

OWN = Store(ResolvedStorage(uri="s3://bucket"), "ns", None)
KEYED = Store(ResolvedStorage(uri="s3://bucket"), "ns", "keys")


def secret(**data: str) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "ns"}, "data": encoded}


class Shop:
    def __init__(self, ambient: Callable[[ResolvedStorage], bool] = lambda _: True, lend: Any = nullcontext) -> None:
        self.api, self.clock = FakeApi(), Clock()
        self.opened: list[Credentials | None] = []
        self.asked: list[ResolvedStorage] = []
        self.stores = Stores(self.api, ambient, self._open, self.clock, lend)

    def _open(self, storage: ResolvedStorage, credentials: Credentials | None) -> str:
        self.opened.append(credentials)
        self.asked.append(storage)
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


async def test_when_the_pause_is_over_one_caller_tries_and_the_others_are_told_at_once() -> None:
    shop, gate = Shop(), threading.Event()

    def failing(store: Any) -> None:
        raise StoreError("no answer")

    with pytest.raises(StoreError):
        await shop.stores.call(OWN, failing)
    shop.clock.now += 6
    trying = asyncio.create_task(shop.stores.call(OWN, lambda store: gate.wait(5)))
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="no answer"):
        await shop.stores.call(OWN, str)
    gate.set()
    assert await trying
    assert await shop.stores.call(OWN, str) == "store 1"


async def test_a_store_that_hangs_is_given_up_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_SECONDS", 0.05)
    shop, gate = Shop(), threading.Event()
    with pytest.raises(StoreError, match=r"s3://bucket at Amazon S3 was given up after 0\.05 s") as caught:
        await shop.stores.call(OWN, lambda store: gate.wait(5))
    assert caught.value.retryable
    gate.set()
    shop.stores.close()


async def test_a_server_that_hangs_holds_only_the_threads_of_its_own_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    shop, gate = Shop(), threading.Event()
    slow = [_hanging(f"bucket-{number}") for number in range(20)]
    stuck = [asyncio.create_task(shop.stores.call(store, lambda _: gate.wait(5))) for store in slow]
    await asyncio.sleep(0.05)
    neighbours = (OWN, replace(slow[0], namespace="other"), Store(ResolvedStorage(uri="s3://bucket"), "team", None))
    for neighbour in neighbours:
        async with asyncio.timeout(2):
            assert await shop.stores.call(neighbour, lambda _: True)
    # What has had no turn blames no server for it.
    monkeypatch.setattr(stores, "_SECONDS", 0.05)
    with pytest.raises(Busy):
        await shop.stores.call(_hanging("bucket-99"), str)
    gate.set()
    assert all(await asyncio.gather(*stuck))
    shop.stores.close()


async def test_a_slow_store_holds_no_hand_of_the_queue() -> None:
    queue, gate = Queue(4), threading.Event()
    shop, looked = Shop(lend=queue.lend), asyncio.Queue[Key]()

    async def look(key: Key) -> Outcome:
        if key.namespace == "team":
            await shop.stores.call(_hanging(key.name), lambda _: gate.wait(30))
        if key.kind == "ModelDeployment":
            await shop.stores.call(OWN, str)
        looked.put_nowait(key)
        return Outcome()

    hanging = [Key("ModelDeployment", "team", f"bucket-{number}") for number in range(50)]
    others = [Key("ModelDeployment", "ns", "served"), Key("TrainingJob", "ns", "trained")]
    for key in (*hanging, *others):
        queue.add(key)
    running = asyncio.create_task(queue.run(look))
    async with asyncio.timeout(20):
        assert {await looked.get() for _ in others} == set(others)
        gate.set()
        assert {await looked.get() for _ in hanging} == set(hanging)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    shop.stores.close()


async def test_a_server_without_an_answer_is_asked_once_for_all_its_buckets() -> None:
    shop, asked = Shop(), []

    def silent(store: Any) -> None:
        asked.append(store)
        raise NoAnswer("nobody there")

    # All at once: those that waited for their turn are told what the others found out.
    calls = [shop.stores.call(_hanging(f"bucket-{number}"), silent) for number in range(50)]
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(error) for error in told} == {"nobody there"}
    assert len(asked) <= stores._AT_A_SERVER
    assert await shop.stores.call(replace(_hanging("bucket-1"), namespace="other"), bool)
    shop.clock.now += 6
    assert await shop.stores.call(_hanging("bucket-99"), bool)
    assert await shop.stores.call(_hanging("bucket-1"), bool)


async def test_a_server_that_answers_for_one_bucket_may_have_another_answer_for_the_next() -> None:
    shop = Shop()

    def throttled(store: Any) -> None:
        raise StoreError("SlowDown")

    for _ in range(2):
        with pytest.raises(StoreError, match="SlowDown"):
            await shop.stores.call(_hanging("bucket-1"), throttled)
    assert await shop.stores.call(_hanging("bucket-2"), bool)


async def test_of_what_is_heavy_a_namespace_has_one_and_a_store_that_hangs_leaves_the_others_theirs() -> None:
    shop, gate = Shop(), threading.Event()
    hanging = [shop.stores.call(_hanging(f"bucket-{n}"), lambda _: gate.wait(30), heavy=True) for n in range(9)]
    stuck = [asyncio.create_task(call) for call in hanging]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        for number in range(9):
            there = replace(OWN, namespace=f"team-{number}")
            await asyncio.create_task(shop.stores.call(there, bool, heavy=True))
        assert await shop.stores.call(_hanging("bucket-99"), bool), "what is light does not wait for it"
        gate.set()
        assert all(await asyncio.gather(*stuck))


async def test_what_is_held_alone_is_held_until_the_look_ends() -> None:
    shop, ends = Shop(), asyncio.Event()
    held = 0

    async def look() -> None:
        nonlocal held
        await shop.stores.alone()
        held += 1
        await ends.wait()

    looks = [asyncio.create_task(look()) for _ in range(3)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert held == 1
    ends.set()
    await asyncio.gather(*looks)
    assert held == 3


def _hanging(bucket: str) -> Store:
    return Store(ResolvedStorage(uri=f"s3://{bucket}", endpoint="http://slow"), "team", None)


def test_a_call_of_the_operator_lets_its_thread_go_soon() -> None:
    opened = Stores(FakeApi(), lambda _: True)._opener(ResolvedStorage(uri="s3://bucket"), Credentials("a", "b"))
    config = opened._client.meta.config
    worst = config.retries["total_max_attempts"] * (config.connect_timeout + config.read_timeout)
    assert worst <= stores._SECONDS


async def test_a_value_that_is_not_text_is_named() -> None:
    shop = Shop()
    broken = secret(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="x")
    for value in (base64.b64encode(b"\xff\xfe").decode(), "no base64"):
        broken["data"]["AWS_SECRET_ACCESS_KEY"] = value
        shop.api.add(broken)
        with pytest.raises(
            StoreError, match="Secret ns/keys: the value of AWS_SECRET_ACCESS_KEY is not text"
        ) as caught:
            await shop.stores.call(KEYED, str)
        assert not caught.value.retryable


async def test_without_a_secret_the_operator_s_own_identity_opens_only_its_default_store() -> None:
    shop = Shop(ambient=at_or_below(ResolvedStorage(uri="s3://models/production", endpoint="http://own")))
    for uri in ("s3://models/production", "s3://models/production/team"):
        assert await shop.stores.call(Store(ResolvedStorage(uri=uri, endpoint="http://own"), "ns", None), bool)
    for uri, endpoint in (
        ("s3://models", "http://own"),
        ("s3://models/production-of-others", "http://own"),
        ("s3://payroll", "http://own"),
        ("s3://models/production", "http://listens-for-tokens"),
        ("s3://models/production", None),
    ):
        foreign = Store(ResolvedStorage(uri=uri, endpoint=endpoint), "ns", None)
        with pytest.raises(StoreError, match=r"storage\.secretName is not set: name a Secret that opens") as caught:
            await shop.stores.call(foreign, str)
        assert uri in caught.value.message
        assert not caught.value.retryable
    assert {storage.uri for storage in shop.asked} == {"s3://models/production", "s3://models/production/team"}


async def test_with_a_secret_any_store_is_opened_and_without_a_default_none_without() -> None:
    shop = Shop(ambient=at_or_below(None))
    shop.api.add(secret(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="one"))
    assert await shop.stores.call(KEYED, str) == "store 1"
    with pytest.raises(StoreError, match=r"storage\.secretName is not set"):
        await shop.stores.call(OWN, str)
