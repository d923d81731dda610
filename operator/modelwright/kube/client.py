"""Calls to the API server: raw JSON in, raw JSON out.

The configuration (kubeconfig, service account, certificates, exec plugins, token rotation) is the official client's.
The calls are not: its typed models and its second serialization cost several times the CPU of a call, and every
object costs three calls.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from yarl import URL

from modelwright.kube import errors
from modelwright.kube.metrics import Metrics
from modelwright.kube.resources import EVENT, TOKEN_REVIEW, Resource, resource_of
from modelwright.plan.actions import Object, Ref

MANAGER = "modelwright"
PAGE = 100
"""Objects of a list at once: each may be of more than a megabyte."""
WATCH_SECONDS = 120
"""The server ends a watch after so long; without an end of its own a dead connection would never be noticed."""
WATCH_DEADLINE = 150
DEEPEST = 12_000
"""Calls of functions within calls, and with them levels of JSON: the API server takes 10,000 of these."""
_CALL_SECONDS = 30
_CONNECTIONS = 64
_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


async def load_configuration(context: str | None = None) -> Configuration:
    """Return how to reach the cluster: the named context, the pod's service account, or the current context.

    Raises kubernetes.aio.config.ConfigException when there is none.
    """
    configuration = Configuration()
    if context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(context=context, client_configuration=configuration)
    return configuration


class Client:
    """The few calls that an operator makes. Every failure is one of `modelwright.kube.errors`."""

    def __init__(self, configuration: Configuration, metrics: Metrics) -> None:
        self._configuration = configuration
        self._metrics = metrics
        self._host = configuration.host.rstrip("/")
        # The official REST object knows how to build a TLS context from a configuration; nothing else of it is used.
        context = RESTClientObject(configuration).ssl_context
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, ssl=context, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=_CALL_SECONDS),
            # On the way to a neighbour compression costs more than it saves.
            headers={"User-Agent": MANAGER, "Accept": _JSON, "Accept-Encoding": "identity"},
        )
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._extra: dict[str, Any] = {}
        if configuration.tls_server_name:
            self._extra["server_hostname"] = configuration.tls_server_name
        proxy = configuration.proxy or _proxy_of(self._host)
        if proxy:
            self._extra["proxy"] = proxy
        self.guard: Callable[[], None] = _no_guard
        """Called right before every write of the reconciler; raises when this process may not write any more."""

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """Return an object."""
        return await self._call("get", "GET", resource.path(namespace, name))

    async def kinds(self, api_version: str) -> frozenset[str]:
        """Return the kinds that the API server knows of a group's version; none where it does not know the group."""
        try:
            found = await self._call("get", "GET", f"/apis/{api_version}")
        except errors.NotFound:
            return frozenset()
        return frozenset(entry["kind"] for entry in found.get("resources") or ())

    async def list(
        self,
        resource: Resource,
        namespace: str | None,
        selector: str = "",
        *,
        fields: str = "",
        metadata_only: bool = False,
    ) -> AsyncIterator[tuple[list[Object], str]]:
        """Yield pages of objects, each with the resource version of the whole list; items do not say their kind.

        `selector` and `fields` are a label selector and a field selector.
        """
        headers = {"Accept": _METADATA_ONLY} if metadata_only else {}
        query: dict[str, str | int] = {"limit": PAGE}
        query |= {"labelSelector": selector} if selector else {}
        query |= {"fieldSelector": fields} if fields else {}
        while True:
            page = await self._call("list", "GET", resource.path(namespace), query=query, headers=headers)
            yield page.get("items") or [], page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def watch(
        self, resource: Resource, namespace: str | None, selector: str, version: str
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield (type, object), bookmarks included, until the server ends the stream."""
        query: dict[str, str | int] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": WATCH_SECONDS,
        }
        if selector:
            query["labelSelector"] = selector
        timeout = aiohttp.ClientTimeout(total=WATCH_DEADLINE, sock_connect=10)
        try:
            async with self._session.get(
                self._url(resource.path(namespace), query),
                headers=await self._authorization(),
                timeout=timeout,
                **self._extra,
            ) as response:
                self._metrics.api_calls.labels("watch", str(response.status)).inc()
                if response.status >= 400:
                    raise errors.from_response(response.status, await response.read())
                async for line in _lines(response.content):
                    event = _decode(line)
                    if event["type"] == "ERROR":
                        raise errors.from_response(event["object"].get("code", 500), orjson.dumps(event["object"]))
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unavailable(_describe(error)) from error

    async def apply(self, document: Object, subresource: str | None = None) -> Object:
        """Server-side apply, by force: where somebody else set a field that a plan sets, the plan wins."""
        metadata = document["metadata"]
        path = resource_of(document).path(metadata.get("namespace"), metadata["name"], subresource)
        query: dict[str, str | int] = {"fieldManager": MANAGER, "force": "true"}
        return await self._call("apply", "PATCH", path, query=query, body=document, content_type=_APPLY, guarded=True)

    async def patch(self, resource: Resource, ref: Ref, body: Object) -> Object:
        """JSON merge patch of one life of an object. Raises Conflict when the object is another one."""
        of_this_life = {**body, "metadata": {**body.get("metadata", {}), "uid": ref.uid}}
        path = resource.path(ref.namespace, ref.name)
        query: dict[str, str | int] = {"fieldManager": MANAGER}
        return await self._call(
            "patch", "PATCH", path, query=query, body=of_this_life, content_type=_MERGE, guarded=True
        )

    async def delete(self, resource: Resource, ref: Ref, propagation: str, grace_seconds: int | None = None) -> Object:
        """Delete one life of an object; return what is left of it, or the Status that says it is gone."""
        body: Object = {"propagationPolicy": propagation, "preconditions": {"uid": ref.uid}}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        return await self._call("delete", "DELETE", resource.path(ref.namespace, ref.name), body=body, guarded=True)

    async def replace(self, resource: Resource, document: Object) -> Object:
        """Update an object that is still at its resource version. Raises Conflict when it is not."""
        metadata = document["metadata"]
        return await self._call("update", "PUT", resource.path(metadata["namespace"], metadata["name"]), body=document)

    async def create(self, resource: Resource, document: Object, *, guarded: bool = False) -> Object:
        """Create an object."""
        path = resource.path(document.get("metadata", {}).get("namespace"))
        return await self._call("create", "POST", path, body=document, guarded=guarded)

    async def create_event(self, document: Object) -> None:
        """Post an event."""
        await self.create(EVENT, document)

    async def review_token(self, token: str, audience: str) -> Object:
        """Return the status of a TokenReview."""
        body = {
            "apiVersion": TOKEN_REVIEW.api_version,
            "kind": TOKEN_REVIEW.kind,
            "spec": {"token": token, "audiences": [audience]},
        }
        status: Object = (await self.create(TOKEN_REVIEW, body)).get("status", {})
        return status

    async def _call(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Object | None = None,
        content_type: str = _JSON,
        headers: Mapping[str, str] | None = None,
        guarded: bool = False,
    ) -> Object:
        sent = {**await self._authorization(), **(headers or {})}
        payload = None
        if body is not None:
            payload = _encode(body)
            sent["Content-Type"] = content_type
        async with self._slots:
            if guarded:
                # Asked last of all: the wait for a slot may have been longer than the Lease.
                self.guard()
            answer = await self._send(verb, method, self._url(path, query), payload, sent)
        return _decode(answer)

    async def _send(self, verb: str, method: str, url: URL, payload: bytes | None, headers: Mapping[str, str]) -> bytes:
        code, answer, retry_after = 0, b"", None
        try:
            async with self._session.request(method, url, data=payload, headers=headers, **self._extra) as response:
                code, answer, retry_after = response.status, await response.read(), response.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unavailable(_describe(error)) from error
        finally:
            self._metrics.api_calls.labels(verb, str(code)).inc()
        if code >= 400:
            raise errors.from_response(code, answer, retry_after)
        return answer

    def _url(self, path: str, query: Mapping[str, str | int] | None) -> URL:
        # Names in paths have been checked by the API server: nothing needs quoting, and yarl's quoting is slow.
        return URL(f"{self._host}{path}?{urlencode(query)}" if query else f"{self._host}{path}", encoded=True)

    async def _authorization(self) -> dict[str, str]:
        read: Callable[[str], Awaitable[str | None]] = self._configuration.get_api_key_with_prefix
        token = await read("BearerToken")
        if token:
            return {"Authorization": token}
        if self._configuration.username:
            return {"Authorization": self._configuration.get_basic_auth_token()}
        return {}


def _proxy_of(host: str) -> str | None:
    # aiohttp's trust_env asks the environment again for every call, in a thread: a third of what a call costs.
    address = urlsplit(host)
    if proxy_bypass(address.netloc):
        return None
    return getproxies().get(address.scheme)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # The stream's own line iterator refuses lines above its buffer limit; objects may be larger.
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _decode(answer: bytes) -> Object:
    try:
        document: Object = orjson.loads(answer)
    except orjson.JSONDecodeError:
        # It reads 1,024 levels. One object with more would hide all others of its list.
        document = json.loads(answer)
    return document


def _encode(body: Object) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        # Numbers of more than 64 bits, half characters: what a pod says may hold them, and repeating does not help.
        raise errors.Rejected(f"it cannot be written as JSON: {error}") from None


def _describe(error: BaseException) -> str:
    return f"the API server does not answer: {str(error) or type(error).__name__}"


def _no_guard() -> None:
    """Allow every write."""
