"""The little of HTTP that a bare ASGI application needs."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from modelwright.runtime.serve.errors import RequestError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 16 * 1024 * 1024
"""Bytes of one request."""
JSON = b"application/json"
BINARY = b"application/octet-stream"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"
HEADER_LENGTH = b"inference-header-content-length"
_LONGEST_LENGTH = 10
"""Digits; Python reads no number of thousands of them."""


class Disconnected(Exception):  # noqa: N818 (an event, not an error)
    """The caller has gone away."""


@dataclass(frozen=True)
class Response:
    """An answer."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def json_response(document: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(orjson.dumps(document), status)


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the body of a request. Raises RequestError when it is too large, Disconnected when the caller is gone."""
    headers = dict(scope["headers"])
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise RequestError("compressed bodies are not read: send it plain", status=415)
    declared = headers.get(b"content-length", b"0")
    if int(declared) > MAX_BODY:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def header_length(scope: Scope) -> int | None:
    """Return the size of the JSON part that a request declares; None: all of it. Raises RequestError."""
    declared = next((value for name, value in scope["headers"] if name == HEADER_LENGTH), None)
    if declared is None:
        return None
    if not declared.isdigit() or len(declared) > _LONGEST_LENGTH:
        raise RequestError("Inference-Header-Content-Length is not a number", got=declared.decode("latin-1")[:60])
    return int(declared)


async def respond(send: Send, response: Response, *, close: bool) -> None:
    """Send an answer; `close` asks the caller to come back on another connection."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", str(len(response.body)).encode()),
        *response.headers,
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _too_large() -> RequestError:
    return RequestError(
        "the body is too large: split the request", status=413, expected=f"at most {MAX_BODY} bytes", got="more"
    )
