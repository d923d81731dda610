"""What can go wrong between the operator and the API server, in the ways that matter to a caller."""

import orjson

_PERMANENT = frozenset({400, 403, 405, 406, 413, 415, 422})
_LONGEST_MESSAGE = 1024
_NOT_THE_SCHEMA = "failed to create typed patch object"
"""Server-side apply says so of an unknown field or a wrong type, with the status 500."""
_NOT_ASKED = "Internal error occurred: failed calling webhook"
"""With the same status."""


class ApiError(Exception):
    """A call to the API server failed."""

    def __init__(self, message: str, code: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        """HTTP status; 0 when there was no answer."""
        self.retry_after = retry_after
        """Seconds that the server asked to wait."""


class NotFound(ApiError):  # noqa: N818 (named as Kubernetes names it)
    """There is no such object, or no such kind."""


class Conflict(ApiError):  # noqa: N818
    """The object is another one, or a newer one, than the caller thought."""


class Rejected(ApiError):  # noqa: N818
    """Refused for a reason that repeating the call does not cure."""


class Expired(ApiError):  # noqa: N818
    """The resource version, or the page of a list, is too old: list again."""


class Unavailable(ApiError):  # noqa: N818
    """No answer, or "not now": the same call may succeed later."""


class WebhookDown(Unavailable):
    """A webhook that the API server has to ask did not answer: nothing was written, and people have to see why."""


def from_response(code: int, payload: bytes, retry_after: str | None = None) -> ApiError:
    """Return the error that a response with a status of 400 or more stands for."""
    message = _message(payload) or f"the API server answered {code}"
    kind: type[ApiError] = Unavailable
    if code == 404:
        kind = NotFound
    elif code == 409:
        kind = Conflict
    elif code == 410:
        kind = Expired
    elif code in _PERMANENT or message.startswith(_NOT_THE_SCHEMA):
        kind = Rejected
    elif message.startswith(_NOT_ASKED):
        kind = WebhookDown
    wait = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
    return kind(message, code, wait)


def _message(payload: bytes) -> str:
    try:
        status = orjson.loads(payload)
    except orjson.JSONDecodeError:
        # A proxy in between answers in HTML or in plain text.
        return payload[:_LONGEST_MESSAGE].decode(errors="replace").strip()
    message = status.get("message") if isinstance(status, dict) else None
    return str(message)[:_LONGEST_MESSAGE] if message else ""
