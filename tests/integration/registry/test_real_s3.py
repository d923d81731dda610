"""What the registry promises, kept against a real S3 server."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.cluster import ports
from modelwright.api.run import ResolvedStorage
from modelwright.registry.aliases import move_alias, read_alias
from modelwright.registry.errors import AliasMoved, AlreadyExists, PreconditionFailed, StoreError, Superseded
from modelwright.registry.probe import missing_condition
from modelwright.registry.store import Credentials, ObjectStore, open_store
from modelwright.registry.versions import Writer, fetch_version, list_versions, register, take_number
from tests.integration.registry.conftest import CREDENTIALS

AT = "2026-11-23T10:00:00Z"


def put_version(store: ObjectStore, folder: Path, uid: str) -> int:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(uid.encode() * 1000)
    return register(store, model="m", namespace="ns", job_uid=uid, directory=folder, created=AT).version


def test_the_server_honours_conditional_writes(store: ObjectStore) -> None:
    assert missing_condition(store) is None
    assert store.list("") == ()


def test_conditions_are_enforced(store: ObjectStore) -> None:
    first = store.write("a.json", b"{}", if_absent=True)
    with pytest.raises(AlreadyExists):
        store.write("a.json", b"{}", if_absent=True)
    store.write("a.json", b'{"n": 1}', if_match=first)
    with pytest.raises(PreconditionFailed):
        store.write("a.json", b"{}", if_match=first)
    with pytest.raises(PreconditionFailed):
        store.write("gone.json", b"{}", if_match=first)
    assert store.read_json("a.json") == {"n": 1}


def test_listing_reading_and_deleting(store: ObjectStore, tmp_path: Path) -> None:
    for name in ("w/2/a.json", "w/1/a.json", "w/3/a.json", "x.json"):
        store.write_json(name, {"name": name})
    assert [d["name"] for d in store.fetch_jsons("w/", after="w/1/a.json")()] == ["w/2/a.json", "w/3/a.json"]
    assert store.folders("w/") == ("1", "2", "3")
    store.download("x.json", tmp_path / "x.json")
    assert b"x.json" in (tmp_path / "x.json").read_bytes()
    store.delete_prefix("w/")
    assert [entry.key for entry in store.list("")] == ["x.json"]
    assert store.read_bytes("w/1/a.json") is None


def test_a_document_that_is_too_large_is_left_where_it_is(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelwright.registry.store._LARGEST_DOCUMENT", 100)
    store.write("w/1.json", b" " * 50_000_000)
    store.write_json("w/2.json", {"n": 2})
    with pytest.raises(StoreError, match="is larger than 100 bytes"):
        store.read_json("w/1.json")
    assert store.fetch_jsons("w/")() == ({"n": 2},)


def test_jobs_that_race_never_share_a_number(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda job: take_number(store, "m", "ns", f"job-{job}"), range(8)))
    assert sorted(numbers) == list(range(1, 9))


def test_attempts_that_race_share_one_number(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = set(pool.map(lambda _: take_number(store, "m", "ns", "job"), range(8)))
    assert len(numbers) == 1


def test_an_attempt_takes_over_from_one_that_may_live_on(store: ObjectStore) -> None:
    assert take_number(store, "m", "ns", "job", Writer(1)) == 1
    with ThreadPoolExecutor(4) as pool:
        later = Writer(2, unconfirmed=1)
        numbers = set(pool.map(lambda _: take_number(store, "m", "ns", "job", later), range(4)))
    assert len(numbers) == 1
    assert min(numbers) > 1
    with pytest.raises(Superseded):
        take_number(store, "m", "ns", "job", Writer(1))


def test_versions_and_aliases_live_a_whole_life(store: ObjectStore, tmp_path: Path) -> None:
    for uid in ("a", "b", "c"):
        put_version(store, tmp_path / "version", uid)
    assert list_versions(store, "m") == (1, 2, 3)
    fetch_version(store, "m", 2, tmp_path / "copy")
    assert (tmp_path / "copy" / "model.onnx").read_bytes() == b"b" * 1000
    move_alias(store, "m", "champion", 1, None, "tj/a", "first", AT)
    move_alias(store, "m", "champion", 2, 1, "tj/b", "better", AT)
    with pytest.raises(AliasMoved):
        move_alias(store, "m", "champion", 3, 1, "tj/c", "late", AT)
    found = read_alias(store, "m", "champion")
    assert found is not None
    assert found[0].version == 2


def test_a_missing_bucket_is_named(endpoint: str) -> None:
    missing = open_store(ResolvedStorage(uri="s3://no-such-bucket/x", endpoint=endpoint), CREDENTIALS)
    for attempt in (lambda: missing.read_json("a"), lambda: missing.list(""), lambda: missing.write("a", b"")):
        with pytest.raises(StoreError, match="Bucket no-such-bucket does not exist") as caught:
            attempt()
        assert not caught.value.retryable


@pytest.mark.parametrize("credentials", [Credentials("nobody", "x" * 16), Credentials("modelwright", "wrong-secret")])
def test_wrong_credentials_are_named_and_not_shown(endpoint: str, credentials: Credentials) -> None:
    stranger = open_store(ResolvedStorage(uri="s3://bucket", endpoint=endpoint), credentials)
    with pytest.raises(StoreError, match="does not accept the credentials") as caught:
        stranger.list("")
    assert credentials.secret_access_key not in str(caught.value)
    assert not caught.value.retryable


def test_a_server_that_is_down_is_worth_another_try() -> None:
    storage = ResolvedStorage(uri="s3://bucket", endpoint=f"http://127.0.0.1:{ports.free(1)[0]}")
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        open_store(storage, CREDENTIALS).read_json("a")
    assert caught.value.retryable


def test_what_is_too_large_for_one_request_goes_in_pieces(store: ObjectStore, tmp_path: Path) -> None:
    data = bytes(range(256)) * (65 * 2**20 // 256)
    store.upload("large", data)
    store.upload("small", b"small")
    assert [entry.size for entry in store.list("")] == [len(data), 5]
    store.download("large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == data
    store.upload("file", tmp_path / "large")
    store.download("file", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data
