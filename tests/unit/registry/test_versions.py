import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api import layout
from modelwright.registry.errors import AlreadyExists, CorruptVersion, IncompleteVersion, StoreError
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import (
    fetch_version,
    find_registered,
    list_versions,
    read_manifest,
    register,
    take_number,
)
from tests.unit.registry.fake_s3 import FakeS3, memory_store

CREATED = "2026-11-23T10:00:00Z"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "signature.json").write_bytes(b"{}")
    return folder


def write(store: ObjectStore, directory: Path, uid: str) -> int:
    return register(store, model="m", namespace="ns", job_uid=uid, directory=directory, created=CREATED).version


def test_versions_count_from_one(store: ObjectStore, directory: Path) -> None:
    assert [write(store, directory, uid) for uid in ("a", "b")] == [1, 2]
    assert list_versions(store, "m") == (1, 2)


def test_the_manifest_is_written_last_and_lists_every_file(client: FakeS3, store: ObjectStore, directory: Path) -> None:
    write(store, directory, "a")
    assert client.puts[-1] == "base/models/m/versions/1/manifest.json"
    manifest = read_manifest(store, "m", 1)
    assert manifest is not None
    assert set(manifest.files) == {"model.onnx", "signature.json"}
    assert manifest.job_uid == "a"


def test_a_job_that_registers_again_keeps_its_version(client: FakeS3, store: ObjectStore, directory: Path) -> None:
    first = write(store, directory, "a")
    before = dict(client.objects)
    (directory / "model.onnx").write_bytes(b"another graph")
    assert write(store, directory, "a") == first
    assert client.objects == before


@given(st.data())
def test_a_job_that_crashes_after_any_write_ends_with_exactly_one_version(data: st.DataObject) -> None:
    crash_after = data.draw(st.integers(0, 4))
    client = FakeS3()
    store = memory_store(client)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / "model.onnx").write_bytes(b"graph")
        write(store, directory, "earlier")
        crash_at = len(client.puts) + crash_after
        original = client.put_object

        def crashing(**request: object) -> object:
            if len(client.puts) == crash_at:
                raise ConnectionResetError
            return original(**request)  # type: ignore[arg-type]

        client.put_object = crashing  # type: ignore[method-assign, assignment]
        try:
            write(store, directory, "mine")
        except ConnectionResetError:
            client.put_object = original  # type: ignore[method-assign]
            write(store, directory, "mine")
        owners = [read_manifest(store, "m", number) for number in list_versions(store, "m")]
    assert sorted(m.job_uid for m in owners if m is not None) == ["earlier", "mine"]


def test_two_jobs_that_race_for_a_number_get_two(client: FakeS3, store: ObjectStore) -> None:
    rival: list[int] = []
    client.before_put["base/models/m/versions/1/claim.json"] = lambda: rival.append(take_number(store, "m", "ns", "b"))
    assert take_number(store, "m", "ns", "a") == 2
    assert rival == [1]


def test_two_attempts_that_race_agree_on_one_number(client: FakeS3, store: ObjectStore) -> None:
    rival: list[int] = []
    client.before_put["base/runs/ns/a/registration.json"] = lambda: rival.append(take_number(store, "m", "ns", "a"))
    assert take_number(store, "m", "ns", "a") == rival[0]


@pytest.mark.parametrize("key", ["models/m/versions/1/claim.json", "runs/ns/a/registration.json"])
def test_a_lost_answer_is_not_taken_for_a_rival(client: FakeS3, store: ObjectStore, key: str) -> None:
    client.lose_answer_of.add(f"base/{key}")
    assert take_number(store, "m", "ns", "a") == 1


def test_a_lost_answer_to_the_manifest_is_not_taken_for_a_rival(
    client: FakeS3, store: ObjectStore, directory: Path
) -> None:
    client.lose_answer_of.add("base/models/m/versions/1/manifest.json")
    assert write(store, directory, "a") == 1


def test_a_manifest_is_never_replaced(client: FakeS3, store: ObjectStore, directory: Path, tmp_path: Path) -> None:
    def rival() -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "model.onnx").write_bytes(b"other")
        register(store, model="m", namespace="ns", job_uid="a", directory=other, created=CREATED)

    client.before_put["base/models/m/versions/1/manifest.json"] = rival
    with pytest.raises(AlreadyExists):
        write(store, directory, "a")


def test_a_job_finds_its_version_only_when_complete(store: ObjectStore, directory: Path) -> None:
    assert find_registered(store, "ns", "a") is None
    take_number(store, "m", "ns", "a")
    assert find_registered(store, "ns", "a") is None
    write(store, directory, "a")
    found = find_registered(store, "ns", "a")
    assert found is not None
    assert (found.version, found.uri) == (1, "s3://bucket/base/models/m/versions/1/")


def test_a_version_comes_back_byte_for_byte(store: ObjectStore, directory: Path, tmp_path: Path) -> None:
    write(store, directory, "a")
    fetch_version(store, "m", 1, tmp_path / "copy")
    assert (tmp_path / "copy" / "model.onnx").read_bytes() == b"graph"
    assert {p.name for p in (tmp_path / "copy").iterdir()} == {"model.onnx", "signature.json"}


def test_a_version_without_manifest_does_not_exist(store: ObjectStore, tmp_path: Path) -> None:
    take_number(store, "m", "ns", "a")
    with pytest.raises(IncompleteVersion, match="no version 1 of model m in s3://bucket/base"):
        fetch_version(store, "m", 1, tmp_path)


def test_a_changed_file_is_refused_and_not_left_lying(store: ObjectStore, directory: Path, tmp_path: Path) -> None:
    write(store, directory, "a")
    store.write("models/m/versions/1/model.onnx", b"grapH")
    with pytest.raises(CorruptVersion, match=r"model\.onnx is not what the manifest says"):
        fetch_version(store, "m", 1, tmp_path / "copy")
    assert not (tmp_path / "copy" / "model.onnx").exists()


def test_a_manifest_cannot_write_outside_the_folder(store: ObjectStore, directory: Path, tmp_path: Path) -> None:
    write(store, directory, "a")
    key = layout.manifest_key("m", 1)
    document = store.read_json(key)
    assert document is not None
    document["files"] = {"../evil": document["files"]["model.onnx"]}
    store.write(key, json.dumps(document).encode())
    with pytest.raises(CorruptVersion, match="outside its folder"):
        fetch_version(store, "m", 1, tmp_path / "copy")


def test_a_damaged_manifest_is_an_error_and_not_an_absence(store: ObjectStore) -> None:
    store.write(layout.manifest_key("m", 1), b'{"model": "m"}')
    with pytest.raises(StoreError, match="is not a Manifest"):
        read_manifest(store, "m", 1)
