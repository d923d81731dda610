import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from modelwright.kube import client as module
from modelwright.kube import errors
from modelwright.kube.client import Client
from modelwright.kube.lease import LostError
from modelwright.kube.metrics import Metrics
from modelwright.kube.resources import JOB, OURS, SECRET, find
from modelwright.plan.actions import Ref
from tests.unit.kube.fake_api import as_deep_as_the_operator, child, count, training_job

REF = Ref("batch/v1", "Job", "ns", "j", "uid-j")


class Server:
    """Notes what is asked, and answers what it was told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, Any]] = []
        self.answers: list[web.Response] = []
        self.lines: list[bytes] = []
        self.most = 0
        """Requests at once."""
        self._now = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        try:
            return await self._answer(request)
        finally:
            self._now -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kind = request.headers.get("Content-Type", "")
        self.asked.append((request.method, request.path_qs, kind, orjson.loads(body) if body else None))
        if request.query.get("watch"):
            stream = web.StreamResponse()
            await stream.prepare(request)
            for line in self.lines:
                await stream.write(line)
            return stream
        return self.answers.pop(0) if self.answers else web.json_response({})


@pytest.fixture
def server() -> Server:
    return Server()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Client]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    async with TestServer(application) as running:
        configuration = Configuration(host=str(running.make_url("")))
        configuration.api_key["BearerToken"] = "bearer abc"
        made = Client(configuration, Metrics())
        yield made
        await made.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with serving(server) as made:
        yield made


async def test_apply_is_forced_under_one_manager(server: Server, client: Client) -> None:
    job = child("Job", "j", "o", spec={})
    await client.apply(job)
    await client.apply(training_job(), "status")
    assert server.asked[0] == (
        "PATCH",
        "/apis/batch/v1/namespaces/ns/jobs/j?fieldManager=modelwright&force=true",
        "application/apply-patch+yaml",
        job,
    )
    assert server.asked[1][1].startswith("/apis/modelwright.dev/v1alpha1/namespaces/ns/trainingjobs/a/status?")


async def test_a_patch_and_a_delete_are_for_one_life_of_an_object(server: Server, client: Client) -> None:
    await client.patch(JOB, REF, {"spec": {"suspend": True}})
    await client.delete(JOB, REF, "Background", grace_seconds=0)
    assert server.asked[0][2:] == (
        "application/merge-patch+json",
        {"spec": {"suspend": True}, "metadata": {"uid": "uid-j"}},
    )
    assert server.asked[1][3] == {
        "propagationPolicy": "Background",
        "preconditions": {"uid": "uid-j"},
        "gracePeriodSeconds": 0,
    }


async def test_a_list_is_read_page_by_page(server: Server, client: Client) -> None:
    server.answers = [
        web.json_response({"metadata": {"resourceVersion": "5", "continue": "token"}, "items": [1]}),
        web.json_response({"metadata": {"resourceVersion": "5"}, "items": [2]}),
    ]
    pages = [page async for page in client.list(JOB, None, "a=b")]
    assert pages == [([1], "5"), ([2], "5")]
    assert "limit=100" in server.asked[0][1]
    assert server.asked[1][1].endswith("continue=token")


async def test_a_watch_ends_by_itself_and_its_lines_may_come_in_pieces(server: Server, client: Client) -> None:
    server.lines = [b'{"type":"ADDED","obj', b'ect":{"a":1}}\n{"type":"BOOKMARK","object":{}}\n']
    assert [event async for event in client.watch(JOB, None, "", "7")] == [("ADDED", {"a": 1}), ("BOOKMARK", {})]
    assert "timeoutSeconds=120" in server.asked[0][1]
    assert "resourceVersion=7" in server.asked[0][1]


@pytest.mark.parametrize("levels", [1100, 9990])
async def test_one_object_of_many_levels_hides_no_other(server: Server, client: Client, levels: int) -> None:
    deep = '{"a":' * levels + "1" + "}" * levels
    server.answers = [web.Response(text=f'{{"metadata":{{"resourceVersion":"5"}},"items":[{deep},{{"b":1}}]}}')]
    server.lines = [f'{{"type":"ADDED","object":{deep}}}\n{{"type":"ADDED","object":{{"b":1}}}}\n'.encode()]
    with as_deep_as_the_operator():
        assert [items[1] async for items, _ in client.list(JOB, None)] == [{"b": 1}]
        assert [found async for _, found in client.watch(JOB, None, "", "7")][1] == {"b": 1}


async def test_a_watch_that_is_too_old_says_so(server: Server, client: Client) -> None:
    server.lines = [b'{"type":"ERROR","object":{"code":410,"message":"too old resource version"}}\n']
    with pytest.raises(errors.Expired, match="too old"):
        async for _ in client.watch(JOB, None, "", "7"):
            pass


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, errors.Rejected),
        (401, errors.Unavailable),
        (403, errors.Rejected),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Expired),
        (422, errors.Rejected),
        (429, errors.Unavailable),
        (500, errors.Unavailable),
        (503, errors.Unavailable),
    ],
)
async def test_every_answer_has_its_error(
    server: Server, client: Client, code: int, kind: type[errors.ApiError]
) -> None:
    server.answers = [
        web.json_response({"kind": "Status", "message": "because"}, status=code, headers={"Retry-After": "3"})
    ]
    with pytest.raises(errors.ApiError) as raised:
        await client.get(JOB, "ns", "j")
    assert type(raised.value) is kind
    assert (raised.value.message, raised.value.code, raised.value.retry_after) == ("because", code, 3.0)
    assert count(client._metrics, "modelwright_api_calls_total", verb="get", code=str(code)) == 1


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "²", ""])
def test_a_wait_that_is_no_number_of_seconds_is_none(header: str) -> None:
    assert errors.from_response(503, b"", header).retry_after is None


def test_an_answer_that_is_not_json_is_quoted_and_cut() -> None:
    assert errors.from_response(502, b"<html>bad gateway</html>").message == "<html>bad gateway</html>"
    assert len(errors.from_response(502, b"x" * 10_000).message) == 1024
    assert errors.from_response(502, b"").message == "the API server answered 502"
    assert errors.from_response(502, b"[]").message == "the API server answered 502"


async def test_no_answer_at_all_is_unavailable(client: Client) -> None:
    await client._session.close()
    gone = Client(Configuration(host="http://127.0.0.1:9"), Metrics())
    with pytest.raises(errors.Unavailable, match="does not answer"):
        await gone.get(JOB, "ns", "j")
    with pytest.raises(errors.Unavailable):
        async for _ in gone.watch(JOB, None, "", "1"):
            pass
    await gone.close()


def closed() -> None:
    raise LostError("the Lease is gone")


def writes(client: Client) -> list[Coroutine[Any, Any, Any]]:
    return [
        client.apply(training_job()),
        client.patch(JOB, REF, {}),
        client.delete(JOB, REF, "Background"),
        client.create(SECRET, child("Secret", "s", "o"), guarded=True),
    ]


async def test_a_guard_stops_every_write_and_no_read(server: Server, client: Client) -> None:
    client.guard = closed
    for write in writes(client):
        with pytest.raises(LostError):
            await write
    await client.get(JOB, "ns", "j")
    assert [asked[0] for asked in server.asked] == ["GET"]
    assert count(client._metrics, "modelwright_api_calls_total", verb="apply", code="0") == 0


async def test_a_write_that_waited_for_a_connection_is_not_sent_once_the_guard_has_closed(
    server: Server, client: Client
) -> None:
    taken = [await client._slots.acquire() for _ in range(module._CONNECTIONS)]
    waiting = [asyncio.create_task(write) for write in writes(client)]
    await asyncio.sleep(0.01)
    client.guard = closed
    for _ in taken:
        client._slots.release()
    assert [type(end) for end in await asyncio.gather(*waiting, return_exceptions=True)] == [LostError] * len(waiting)
    assert server.asked == []


async def test_the_token_is_shown(server: Server, client: Client) -> None:
    assert await client._authorization() == {"Authorization": "bearer abc"}


def test_a_proxy_is_taken_from_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.1")
    assert module._proxy_of("https://api.example.com:6443") == "http://proxy:3128"
    assert module._proxy_of("https://10.0.0.1:6443") is None


def test_paths_are_those_of_the_api_server() -> None:
    assert JOB.path(None) == "/apis/batch/v1/jobs"
    assert find("v1", "Pod").path("ns", "p") == "/api/v1/namespaces/ns/pods/p"
    assert OURS[0].path("ns", "a", "status") == "/apis/modelwright.dev/v1alpha1/namespaces/ns/trainingjobs/a/status"
    with pytest.raises(KeyError):
        find("v1", "Node")


@pytest.mark.parametrize("body", [{"step": 2**70}, {"name": "\udcff"}])
async def test_what_json_cannot_say_is_refused_before_it_is_sent(
    server: Server, client: Client, body: dict[str, Any]
) -> None:
    with pytest.raises(errors.Rejected, match="cannot be written as JSON"):
        await client.patch(JOB, REF, body)
    assert server.asked == []


async def test_many_calls_at_once_share_a_limited_number_of_connections(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONNECTIONS", 5)
    async with serving(server) as client:
        await asyncio.gather(*(client.get(JOB, "ns", str(number)) for number in range(50)))
    assert len(server.asked) == 50
    assert server.most == 5


def test_a_field_that_server_side_apply_does_not_know_is_a_refusal_though_the_status_is_500() -> None:
    message = "failed to create typed patch object (a/b; batch/v1, Kind=Job): .spec.x: field not declared in schema"
    body = orjson.dumps({"kind": "Status", "message": message, "code": 500})
    assert isinstance(errors.from_response(500, body), errors.Rejected)
    assert isinstance(errors.from_response(500, b"boom"), errors.Unavailable)


async def test_the_kinds_of_a_group_are_known_and_a_group_that_is_not_there_has_none(
    server: Server, client: Client
) -> None:
    kinds = {"resources": [{"kind": "RayJob"}, {"kind": "RayJob"}, {"kind": "RayCluster"}]}
    server.answers = [web.json_response(kinds), web.json_response({"message": "not found"}, status=404)]
    assert await client.kinds("ray.io/v1") == {"RayJob", "RayCluster"}
    assert await client.kinds("ray.io/v1") == frozenset()
    assert [path for _, path, _, _ in server.asked] == ["/apis/ray.io/v1"] * 2
