"""What botocore reads whole and parses as XML, within bounds: errors, listings and receipts.

An S3 server may be anybody's, and botocore reads whatever it sends. Objects are streamed, and not meant here.
"""

from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Protocol
from xml.parsers import expat

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import HTTPClientError
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from modelwright.registry.errors import StoreError

_FIRST_ERROR = 300

LARGEST_ANSWER = 2 * 2**20
"""Bytes. A page of 500 keys as long as S3 allows, with what is said of each."""
MOST_ELEMENTS = 20_000
"""With their attributes. Parsed, the least of them takes more than twenty times its text."""


class Session(Protocol):
    """What an endpoint of botocore sends with."""

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Return the answer to a request."""

    def close(self) -> None:
        """Let the connections go."""


class BoundedSession:
    """A session of botocore's that raises `StoreError` for an answer that is too large to be one of S3."""

    def __init__(self, session: Session, server: str) -> None:
        self._session = session
        self._server = server

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Return the answer to a request, read where it is not an object's."""
        streamed = request.stream_output
        request.stream_output = True
        response = self._session.send(request)
        if streamed and response.status_code < _FIRST_ERROR:
            return response
        with closing(response.raw) as body:
            response.raw = _Whole(self._read(body))
        return response

    def close(self) -> None:
        """Let the connections go."""
        self._session.close()

    def _read(self, body: HTTPResponse) -> bytes:
        try:
            data = body.read(LARGEST_ANSWER + 1)
        except HTTPError as error:
            raise HTTPClientError(error=error) from error
        if len(data) > LARGEST_ANSWER or _is_costly(data):
            raise StoreError(
                f"The S3 server at {self._server} answers with more than any listing or error of S3 holds: "
                "check storage.endpoint",
                retryable=False,
            )
        return data


class _Whole:
    """The body of an answer, in the form in which botocore reads it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> Iterator[bytes]:
        """Yield it in one piece."""
        yield self._data


class _CostlyError(Exception):
    """Parsing stops: there is too much of it."""


def _is_costly(data: bytes) -> bool:
    """Tell whether a tree of this XML would hold too much. Of what is no XML no tree is made."""
    left = MOST_ELEMENTS

    def count(_: str, attributes: dict[str, str]) -> None:
        nonlocal left
        left -= 1 + len(attributes)
        if left < 0:
            raise _CostlyError

    def refuse(*_: object) -> None:
        # S3 declares no type, and entities could make much of little.
        raise _CostlyError

    parser = expat.ParserCreate()
    parser.StartElementHandler = count
    parser.StartDoctypeDeclHandler = refuse
    try:
        with suppress(expat.ExpatError):
            parser.Parse(data, True)
    except _CostlyError:
        return True
    return False
