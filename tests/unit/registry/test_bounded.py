"""A server that sends more than S3 would: it must not fill the memory of who asks it."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from modelwright.api.run import ResolvedStorage
from modelwright.registry.bounded import LARGEST_ANSWER, MOST_ELEMENTS
from modelwright.registry.errors import StoreError
from modelwright.registry.store import Credentials, ObjectStore, open_store

_ENTRY = "<Contents><Key>{}</Key><ETag>&quot;0&quot;</ETag><Size>{}</Size></Contents>"
_MORE = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"
Answer = tuple[int, bytes]


@contextmanager
def serving(answer: Callable[[int], Answer]) -> Iterator[ObjectStore]:
    """A wary store whose server answers the n-th request with a status and a body."""
    asked = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal asked
            asked += 1
            status, body = answer(asked)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", "0")
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        place = ResolvedStorage(uri="s3://bucket", endpoint=f"http://127.0.0.1:{server.server_port}")
        try:
            yield open_store(place, Credentials("id", "key"), attempts=1, wary=True)
        finally:
            server.shutdown()
            thread.join()


def listing(*parts: str) -> Answer:
    return 200, f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode()


LONG = {
    "text": b"x" * (32 * 2**20),
    "elements": b"<Error>" + b"<a/>" * MOST_ELEMENTS + b"</Error>",
    "attributes": b"<Error " + b" ".join(b"a%d=''" % n for n in range(MOST_ELEMENTS)) + b"/>",
    "entities": b'<!DOCTYPE e [<!ENTITY a "' + b"x" * 10000 + b'">]><Error>' + b"&a;" * 50000 + b"</Error>",
}
READS = [
    lambda store: store.read_json("a.json"),
    lambda store: store.folders(""),
    lambda store: store.fetch_jsons("")(),
]


@pytest.mark.parametrize(
    ("status", "read"), [(404, READS[0]), (500, READS[0]), (404, READS[1]), (200, READS[1]), (200, READS[2])]
)
@pytest.mark.parametrize("body", LONG.values(), ids=LONG)
def test_an_answer_that_is_too_large_for_s3_is_left_where_it_is(
    body: bytes, read: Callable[[ObjectStore], Any], status: int
) -> None:
    with serving(lambda _: (status, body)) as store:
        tracemalloc.start()
        try:
            with pytest.raises(
                StoreError, match=r"at http://127.* answers with more than any listing or error"
            ) as error:
                read(store)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert not error.value.retryable
    assert peak < 16 * LARGEST_ANSWER


def test_what_s3_says_is_read_as_ever() -> None:
    answers: list[Answer] = [
        (404, b"<Error><Code>NoSuchKey</Code></Error>"),
        (404, b"<html>not one of S3"),
        listing(_ENTRY.format("w/1.json", 2), _ENTRY.format("w/2.txt", 2)),
        (200, b"{}"),
    ]
    with serving(lambda number: answers[number - 1]) as store:
        assert store.read_json("a.json") is None
        assert store.read_json("a.json") is None
        assert store.fetch_jsons("w/")() == ({},)


def test_a_page_as_long_as_s3_makes_it_is_read() -> None:
    names = [f"{number:01024d}" for number in range(500)]
    with serving(lambda _: listing(*(_ENTRY.format(name, 1) for name in names))) as store:
        assert [entry.key for entry in store.list("")] == names


@pytest.mark.parametrize("page", [[], [_ENTRY.format("x" * 100_000, 1)]], ids=["empty", "long names"])
def test_a_listing_without_an_end_is_given_up(page: list[str]) -> None:
    with serving(lambda number: listing(*page, _MORE.format(number))) as store:
        for read in READS[1:]:
            with pytest.raises(StoreError, match="There is more below s3://bucket/ than is listed at once") as error:
                read(store)
            assert not error.value.retryable
