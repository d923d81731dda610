import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest
from kubernetes.aio.client import Configuration

from modelwright.api.common import Storage
from modelwright.api.run import ResolvedStorage
from modelwright.kube import app as app_module
from modelwright.kube import errors
from modelwright.kube.app import App
from modelwright.kube.lease import Timing
from modelwright.kube.objects import Key
from modelwright.kube.resources import POD_GROUPS
from modelwright.kube.settings import Process
from modelwright.plan.questions import Store
from modelwright.plan.settings import Settings
from modelwright.registry.errors import StoreError
from tests.unit.kube.fake_api import FakeApi, count


class Broken(Exception):  # noqa: N818 (what breaks is the test's matter)
    pass


async def forever() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    pass


async def broken() -> None:
    raise Broken


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """An operator whose parts all work quietly for ever."""
    made = App(Process(Settings("r", "s")), {}, Configuration(host="http://127.0.0.1:9"))
    for part, name in ((made.events, "run"), (made.rollcall, "run"), (made, "_view")):
        monkeypatch.setattr(part, name, forever)
    monkeypatch.setattr(made, "_discover", at_once)
    for reflector in made.reflectors:
        monkeypatch.setattr(reflector, "run", forever)
    yield made
    for task in made._tasks:
        task.cancel()
    await made.client.close()
    made.stores.close()


async def test_the_operator_s_own_identity_opens_its_default_store_and_no_other() -> None:
    default = Storage(uri="s3://models/team", endpoint="http://s3:7070")
    made = App(Process(Settings("r", "s", storage=default)), {}, Configuration(host="http://127.0.0.1:9"))
    asked: list[str] = []
    made.stores._opener = lambda storage, credentials: asked.append(storage.uri)
    try:
        for uri, endpoint in (("s3://models/team/a", "http://s3:7070"), ("s3://models/team", "http://elsewhere")):
            store = Store(ResolvedStorage(uri=uri, endpoint=endpoint), "ns", None)
            with contextlib.suppress(StoreError):
                await made.stores.call(store, lambda opened: None)
    finally:
        await made.client.close()
        made.stores.close()
    assert asked == ["s3://models/team/a"]


@pytest.mark.parametrize(("wanted", "served"), [(True, True), (True, False), (False, True)])
async def test_pod_groups_are_watched_and_made_where_they_are_wanted_and_served(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, served: bool
) -> None:
    api, group = FakeApi(), POD_GROUPS[-1]
    api.served = {group.api_version: frozenset({group.kind})} if served else {}
    process = Process(Settings("r", "s"), namespaces=("a", "b"), gang_scheduling=wanted)
    made = App(process, {}, Configuration(host="http://127.0.0.1:9"))
    await made.client.close()
    monkeypatch.setattr(made, "client", api)
    await made._discover()
    made.stores.close()
    watched = [(entry.resource, entry.namespace) for entry in made.reflectors if entry.resource in POD_GROUPS]
    assert watched == ([(group, "a"), (group, "b")] if wanted and served else [])
    assert made.reconciler.settings.pod_groups == (group.api_version if wanted and served else None)
    assert all(entry in made.health._reflectors for entry in made.reflectors)


@pytest.mark.parametrize("wait", [None, errors.Rejected("no role", 403), errors.NotFound("no CRD", 404)])
@pytest.mark.parametrize("order", [("gone", "a"), ("a", "gone")])
async def test_our_kinds_are_waited_for_until_one_namespace_shows_them(
    monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...], wait: errors.ApiError | None
) -> None:
    api, failures = FakeApi(), [wait] * 2
    api.shut = frozenset({"gone"})
    api.fail = lambda verb, kind, name: failures.pop() if failures else None
    monkeypatch.setattr(app_module, "_CRD_SECONDS", 0.0)
    made = App(Process(Settings("r", "s"), namespaces=order), {}, Configuration(host="http://127.0.0.1:9"))
    await made.client.close()
    made.stores.close()
    monkeypatch.setattr(made, "client", api)
    await asyncio.wait_for(made._wait_for_crds(), 5)
    assert failures == []


def place(app: App, part: str) -> tuple[Any, str]:
    *path, name = part.split(".")
    return (getattr(app, path[0]) if path else app), name


@pytest.mark.parametrize("part", ["election.keep", "_discover", "events.run", "rollcall.run", "_view"])
async def test_whatever_breaks_breaks_the_process(app: App, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    if part == "rollcall.run":
        monkeypatch.setattr(app, "_view", at_once)
    monkeypatch.setattr(*place(app, part), broken)
    with pytest.raises(Broken):
        await asyncio.wait_for(app._reconcile(), 1)


async def test_a_watch_that_breaks_during_the_first_view_breaks_the_process(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.reflectors[-1], "run", broken)
    with pytest.raises(Broken):
        await asyncio.wait_for(app._reconcile(), 1)
    assert not app.synced


async def test_what_starts_during_the_first_view_may_break_it_too(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def view() -> None:
        app._background(broken(), "kopf")
        await forever()

    monkeypatch.setattr(app, "_view", view)
    with pytest.raises(Broken):
        await asyncio.wait_for(app._reconcile(), 1)


async def test_half_a_view_is_not_worked_with_when_kopf_ends_by_itself(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def view() -> None:
        app._background(at_once(), "kopf")
        await forever()

    monkeypatch.setattr(app, "_view", view)
    await asyncio.wait_for(app._reconcile(), 1)
    assert not app.synced


async def test_a_leader_keeps_the_room_of_gangs_before_it_looks_at_any_of_them(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    async def look(_: object) -> None:
        done.append("look")

    monkeypatch.setattr(app, "_view", at_once)
    monkeypatch.setattr(app.admission, "take_over", lambda: done.append("take over"))
    monkeypatch.setattr(app.queue, "run", look)
    await asyncio.wait_for(app._reconcile(), 1)
    assert done == ["take over", "look"]


@pytest.mark.parametrize("sees", [False, True])
async def test_one_that_holds_the_lease_and_has_no_view_is_not_told_to_work(
    app: App, monkeypatch: pytest.MonkeyPatch, sees: bool
) -> None:
    asked = asyncio.Event()

    async def view() -> None:
        if not sees:
            asked.set()
            await forever()

    async def work(_: object) -> None:
        asked.set()
        await forever()

    monkeypatch.setattr(app.election, "acquire", at_once)
    monkeypatch.setattr(app, "_view", view)
    monkeypatch.setattr(app.queue, "run", work)
    leading = asyncio.create_task(app._lead())
    await asyncio.wait_for(asked.wait(), 1)
    told = count(app.metrics, "modelwright_is_leader")
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    assert told == sees, "or no alert tells of an operator whose role has lost what it lists"
    assert count(app.metrics, "modelwright_is_leader") == 0


def followed_by_a_pause(call: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def followed() -> None:
        await call()
        await asyncio.sleep(0.05)

    return followed


async def nothing_to_serve() -> AsyncMock:
    return AsyncMock()


async def test_a_released_lease_is_not_taken_back(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    api, election = FakeApi(), app.election
    monkeypatch.setattr(app, "_serve", nothing_to_serve)
    monkeypatch.setattr(election, "_client", api)
    # A renewal falls into whatever is done at the end.
    monkeypatch.setattr(election, "_timing", Timing(period=0.0))
    monkeypatch.setattr(election, "release", followed_by_a_pause(election.release))
    running = asyncio.create_task(app.run())
    async with asyncio.timeout(5):
        while not election.leading:  # noqa: ASYNC110 (a few turns of the loop)
            await asyncio.sleep(0.01)
        app._stop.set()
        await running
    assert api.objects[Key("Lease", "default", "modelwright")]["spec"]["holderIdentity"] == ""
    assert not election.leading
