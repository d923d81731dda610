"""The same store in a local folder: for a program that runs on a desk, without S3."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from modelwright.registry.errors import AlreadyExists, ObjectNotFound, PreconditionFailed, UnreadableDocument
from modelwright.registry.store import Entry, ObjectStore


class FolderStore(ObjectStore):
    """The files below a folder, as an `ObjectStore`. Conditions are checked, but not against another process."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(folder)
        self.bucket = ""
        self._folder = folder

    def at(self, uri: str) -> ObjectStore:
        """Return the store of another folder."""
        return FolderStore(Path(uri))

    def read(self, key: str, limit: int | None = None) -> tuple[bytes, str] | None:
        """Return a file's bytes and a digest of them; see `ObjectStore`."""
        path = self._folder / key
        if not path.is_file():
            return None
        data = path.read_bytes()
        if limit is not None and len(data) > limit:
            raise UnreadableDocument(f"{path} is larger than {limit:,} bytes: no such document is", retryable=False)
        return data, _etag(data)

    def download(self, key: str, path: Path) -> None:
        """Copy a file. Raises `ObjectNotFound`."""
        try:
            shutil.copyfile(self._folder / key, path)
        except FileNotFoundError as error:
            raise ObjectNotFound(f"There is no file {self._folder / key}", retryable=False) from error

    def write(self, key: str, data: bytes | Path, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write a file, which appears whole; see `ObjectStore`."""
        path = self._folder / key
        if if_absent and path.exists():
            raise AlreadyExists(f"{path} exists already", retryable=False)
        if if_match is not None and (self.read(key) or (b"", ""))[1] != if_match:
            raise PreconditionFailed(f"{path} is not what it was")
        body = data if isinstance(data, bytes) else data.read_bytes()
        self.upload(key, body)
        return _etag(body)

    def upload(self, key: str, data: bytes | Path) -> None:
        """Write a file of any size, which appears whole."""
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        if isinstance(data, bytes):
            draft.write_bytes(data)
        else:
            shutil.copyfile(data, draft)
        draft.replace(path)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the folders directly below a prefix; see `ObjectStore`."""
        base = self._folder / prefix
        if not base.is_dir():
            return ()
        return tuple(sorted(path.name for path in base.iterdir() if path.is_dir() and any(path.iterdir())))

    def delete(self, key: str) -> None:
        """Delete a file, and the folders that it leaves empty."""
        path = self._folder / key
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self._folder or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()

    def _entries(self, prefix: str, after: str) -> Iterator[Entry]:
        for path in self._folder.rglob("*"):
            key = path.relative_to(self._folder).as_posix()
            if key.startswith(prefix) and key > after and path.is_file() and not path.name.startswith("."):
                status = path.stat()
                yield Entry(key, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
