import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from modelwright.api.artifacts import Alias
from modelwright.api.run import ResolvedStorage
from modelwright.registry.errors import AlreadyExists, ObjectNotFound, PreconditionFailed, StoreError, translate
from modelwright.registry.store import Credentials, ObjectStore, open_store
from tests.unit.registry.fake_s3 import FakeS3, memory_store, refusal

SERVER = "https://s3.test"


def test_keys_lie_below_the_uri(client: FakeS3, store: ObjectStore) -> None:
    store.write("models/a.json", b"{}")
    assert list(client.objects) == ["base/models/a.json"]
    assert store.locate("models/a.json") == "s3://bucket/base/models/a.json"


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/"])
def test_a_uri_without_a_prefix_is_the_bucket_itself(client: FakeS3, uri: str) -> None:
    memory_store(client, uri).write("a", b"")
    assert list(client.objects) == ["a"]


def test_another_uri_on_the_same_server_is_another_place(store: ObjectStore) -> None:
    store.at("s3://data/rows").write("a.csv", b"x")
    assert store.at("s3://data/rows").read_bytes("a.csv") == b"x"
    assert store.read_bytes("a.csv") is None


def test_what_is_not_there_reads_as_none(store: ObjectStore) -> None:
    assert store.read_json("nothing") is None
    assert store.read_document("nothing", Alias) is None


def test_a_download_of_nothing_says_what_is_missing(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match=r"no object s3://bucket/base/nothing at https://s3\.test"):
        store.download("nothing", tmp_path / "file")


def test_documents_come_in_key_order_and_after_a_key(store: ObjectStore) -> None:
    for number in (3, 1, 2):
        store.write_json(f"w/{number}.json", {"n": number})
    store.write("w/2.txt", b"not a document")
    assert [d["n"] for d in store.fetch_jsons("w/", after="w/1.json")()] == [2, 3]


BROKEN = [b"{", b"[1]", b"\xff", b"", b"[" * 100_000]


@pytest.mark.parametrize("data", BROKEN)
def test_a_broken_document_hides_none_of_the_others(store: ObjectStore, data: bytes) -> None:
    store.write_json("w/1.json", {"n": 1})
    store.write("w/2.json", data)
    store.write_json("w/3.json", {"n": 3})
    assert store.fetch_jsons("w/")() == ({"n": 1}, {"n": 3})


def test_documents_are_fetched_side_by_side(
    client: FakeS3, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        store.write_json(f"w/{number}.json", {"n": number})
    together, alone = threading.Barrier(4, timeout=5), client.get_object

    def when_all_are_under_way(**request: str) -> dict[str, Any]:
        together.wait()
        return alone(**request)

    monkeypatch.setattr(client, "get_object", when_all_are_under_way)
    assert [document["n"] for document in store.fetch_jsons("w/")()] == [0, 1, 2, 3]


def test_a_server_that_fails_is_not_taken_for_a_broken_document(
    client: FakeS3, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_json("w/1.json", {})

    def down(**_: str) -> dict[str, Any]:
        raise refusal("SlowDown", 503)

    monkeypatch.setattr(client, "get_object", down)
    with pytest.raises(StoreError, match="SlowDown"):
        store.fetch_jsons("w/")()


def test_a_document_larger_than_any_is_not_read_into_memory(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelwright.registry.store._LARGEST_DOCUMENT", 10)
    store.write("w/1.json", b'{"a": 123}')
    assert store.read_json("w/1.json") == {"a": 123}
    store.write("w/2.json", b'{"a": 1234}')
    for read in (lambda: store.read_json("w/2.json"), lambda: store.read_document("w/2.json", Alias)):
        with pytest.raises(StoreError, match=r"w/2\.json is larger than 10 bytes") as caught:
            read()
        assert not caught.value.retryable
    assert store.fetch_jsons("w/")() == ({"a": 123},)
    assert store.read_bytes("w/2.json") == b'{"a": 1234}'


@pytest.mark.parametrize(("bound", "value"), [("_MOST_DOCUMENTS", 2), ("_MOST_BYTES", 5)])
def test_more_documents_than_there_is_memory_for_are_refused(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(f"modelwright.registry.store.{bound}", value)
    for number in range(3):
        store.write(f"w/{number}.json", b"{}")
    store.write("w/9.onnx", b"no document, so it does not count")
    assert store.fetch_jsons("w/", after="w/0.json")() == ({}, {})
    with pytest.raises(StoreError, match=r"more than .* below s3://bucket/base/w/: so many are not read") as caught:
        store.fetch_jsons("w/")()
    assert not caught.value.retryable


@pytest.mark.parametrize("data", BROKEN)
def test_a_broken_document_is_an_error_that_names_it(store: ObjectStore, data: bytes) -> None:
    store.write("a.json", data)
    with pytest.raises(StoreError, match=r"s3://bucket/base/a\.json (is not|would take)"):
        store.read_json("a.json")


def test_a_document_of_another_kind_is_an_error(store: ObjectStore) -> None:
    store.write_json("a.json", {"version": "no number"})
    with pytest.raises(StoreError, match="is not a Alias"):
        store.read_document("a.json", Alias)


def test_creating_what_exists_is_refused(store: ObjectStore) -> None:
    store.write("a", b"1", if_absent=True)
    with pytest.raises(AlreadyExists):
        store.write("a", b"2", if_absent=True)
    assert store.read_bytes("a") == b"1"


def test_replacing_what_has_changed_is_refused(store: ObjectStore) -> None:
    old = store.write("a", b"1")
    new = store.write("a", b"2", if_match=old)
    with pytest.raises(PreconditionFailed):
        store.write("a", b"3", if_match=old)
    assert store.read("a") == (b"2", new)


def test_replacing_what_is_gone_is_refused(store: ObjectStore) -> None:
    with pytest.raises(PreconditionFailed):
        store.write("a", b"", if_match='"etag"')


def test_deleting_a_prefix_leaves_its_neighbours(store: ObjectStore) -> None:
    for key in ("a/1", "a/b/2", "ab/3"):
        store.write(key, b"")
    store.delete_prefix("a/")
    assert [entry.key for entry in store.list("")] == ["ab/3"]


@pytest.mark.parametrize(
    ("error", "sentence", "retryable"),
    [
        (refusal("NoSuchBucket", 404), "Bucket b does not exist at https://s3.test: create it", False),
        (refusal("AccessDenied", 403), "refuses access to bucket b", False),
        (refusal("InvalidAccessKeyId", 403), "does not accept the credentials", False),
        (refusal("SlowDown", 503), "answered SlowDown", True),
        (refusal("TooManyRequests", 429), "answered TooManyRequests", True),
        (refusal("MalformedXML", 400), "answered MalformedXML", False),
        (NoCredentialsError(), "name a Secret", False),
        (EndpointConnectionError(endpoint_url="x"), "cannot be reached: check storage.endpoint", True),
    ],
)
def test_errors_say_what_to_check_and_whether_waiting_helps(error: Exception, sentence: str, retryable: bool) -> None:
    told = translate(error, SERVER, "b", "key")
    assert sentence in told.message
    assert told.retryable is retryable


def test_twenty_stores_know_together_what_s3_is() -> None:
    def opened(number: int) -> ObjectStore:
        place = ResolvedStorage(uri="s3://bucket", endpoint=f"http://host-{number}")
        return open_store(place, Credentials("id", "key"))

    opened(0)
    tracemalloc.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(opened, range(20)))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < len(stores) * 2**20


def test_no_secret_shows() -> None:
    credentials = Credentials("AKIAEXAMPLE", "very-secret")
    assert "AKIA" not in repr(credentials)
    assert "very-secret" not in repr(credentials)
    storage = ResolvedStorage(uri="s3://bucket", endpoint="http://user:hunter2@localhost:1")
    opened = open_store(storage, credentials)
    assert "hunter2" not in opened._server


@pytest.mark.parametrize("endpoint", ["http://host:port", "http://under score"])
def test_an_endpoint_that_is_no_url_is_named(endpoint: str) -> None:
    with pytest.raises(StoreError, match=r"storage\.endpoint .* is not the URL"):
        open_store(ResolvedStorage(uri="s3://bucket", endpoint=endpoint))


def test_a_region_that_is_none_is_named() -> None:
    with pytest.raises(StoreError, match=r"storage\.region two words is not the name of a region"):
        open_store(ResolvedStorage(uri="s3://bucket", region="two words"))
