"""A folder in the place of a bucket."""

from pathlib import Path

import pytest

from modelwright.registry.errors import AlreadyExists, ObjectNotFound, PreconditionFailed, UnreadableDocument
from modelwright.registry.folder import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "base")


def test_what_was_written_is_read_listed_and_downloaded(store: FolderStore, tmp_path: Path) -> None:
    store.write("a/1/x.json", b"{}")
    (tmp_path / "two").write_bytes(b"two")
    store.upload("a/2/y", tmp_path / "two")
    assert store.read_json("a/1/x.json") == {}
    assert [(entry.key, entry.size) for entry in store.list("a/")] == [("a/1/x.json", 2), ("a/2/y", 3)]
    assert store.folders("a/") == ("1", "2")
    store.download("a/2/y", tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == b"two"
    assert store.locate("a/2/y") == str(tmp_path / "base/a/2/y")


def test_nothing_there_is_none_or_empty(store: FolderStore, tmp_path: Path) -> None:
    assert store.read("a") is None
    assert store.list("a") == ()
    assert store.folders("a/") == ()
    with pytest.raises(ObjectNotFound):
        store.download("a", tmp_path / "a")


def test_a_deleted_prefix_leaves_no_empty_folders(store: FolderStore, tmp_path: Path) -> None:
    store.write("a/1/x", b"")
    store.write("b", b"")
    store.delete_prefix("a/1/")
    store.delete("a/1/x")
    assert [path.name for path in (tmp_path / "base").iterdir()] == ["b"]


def test_conditions_are_kept(store: FolderStore) -> None:
    etag = store.write("a", b"1", if_absent=True)
    with pytest.raises(AlreadyExists):
        store.write("a", b"2", if_absent=True)
    store.write("a", b"2", if_match=etag)
    with pytest.raises(PreconditionFailed):
        store.write("a", b"3", if_match=etag)
    with pytest.raises(UnreadableDocument):
        store.read("a", limit=0)


def test_another_folder_is_another_store(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a")
    assert store.at(str(tmp_path)).read_bytes("rows.csv") == b"a"
