"""A bucket in memory: conditional writes, outages, and answers that get lost."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelwright.api.artifacts import Alias, File, Manifest
from modelwright.api.layout import alias_key, manifest_key, version_prefix
from modelwright.plan.times import stamp
from modelwright.registry.errors import AlreadyExists, PreconditionFailed, StoreError
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import Writer, take_number
from tests.simulation.faults import Pen


@dataclass
class Bucket:
    """JSON documents by key."""

    clock: Callable[[], datetime]
    documents: dict[str, str] = field(default_factory=dict)
    down: bool = False
    errors_ahead: int = 0
    """So many of the next calls fail."""
    answers_lost_ahead: int = 0
    """So many of the next writes are done, but their answer is lost."""
    moves: list[tuple[str, int]] = field(default_factory=list)
    """Every (alias key, version) that an alias was given."""
    premature: list[tuple[str, int]] = field(default_factory=list)
    """Those of them whose version had no manifest at that moment."""

    def write(self, key: str, document: Any) -> None:
        """Write a document, whatever is there."""
        self.documents[key] = json.dumps(document, sort_keys=True)
        _, model, folder, *_ = key.split("/")
        if folder == "aliases":
            move = (key, document["version"])
            self.moves.append(move)
            if manifest_key(model, document["version"]) not in self.documents:
                self.premature.append(move)

    def set_alias(self, model: str, alias: str, version: int, moved_by: str, reason: str) -> None:
        """Point an alias at a version, whoever holds it."""
        moved = Alias(version=version, moved_by=moved_by, reason=reason, at=stamp(self.clock()))
        self.write(alias_key(model, alias), moved.document())

    def register(self, model: str, content: dict[str, Any]) -> int:
        """Have somebody beside our jobs take the next version number and complete it; return the number."""
        version = self.begin_version(model, f"hand-{len(self.documents)}", content, Writer())
        self.complete_version(model, version, "nobody")
        return version

    def begin_version(self, model: str, uid: str, content: dict[str, Any], writer: Writer) -> int:
        """Take a version number as an attempt of a job does, and write the files; return it. Raises Superseded."""
        version = take_number(self.store(), model, "team", uid, writer)
        self.write(f"{version_prefix(model, version)}model.json", content)
        return version

    def complete_version(self, model: str, version: int, uid: str) -> None:
        """Write the manifest, which makes a version one."""
        files = {"model.json": File(sha256="0" * 64, size=1)}
        manifest = Manifest(model=model, version=version, created=stamp(self.clock()), job_uid=uid, files=files)
        self.write(manifest_key(model, version), manifest.document())

    def store(self) -> "BucketStore":
        """Return the bucket as the registry sees it, from a machine that always reaches it."""
        return BucketStore(self)

    def fail(self) -> None:
        """Raise StoreError where S3 does not answer."""
        if self.errors_ahead:
            self.errors_ahead -= 1
            raise StoreError("S3 answered 503")
        if self.down:
            raise StoreError("S3 does not answer")


class BucketStore(ObjectStore):
    """A bucket behind the interface of the registry. The ETag of a document is the document."""

    def __init__(self, bucket: Bucket) -> None:
        self.uri = "s3://bucket"
        self._documents = bucket.documents
        self._put = bucket.write

    def read(self, key: str, limit: int | None = None) -> tuple[bytes, str] | None:
        """Return a document and its ETag."""
        text = self._documents.get(key)
        return None if text is None else (text.encode(), text)

    def fetch_jsons(self, prefix: str, after: str = "") -> Callable[[], tuple[dict[str, Any], ...]]:
        """Return what parses the documents below a prefix whose keys sort after one."""
        found = sorted(key for key in self._documents if key.startswith(prefix) and key > after)
        return lambda: tuple(json.loads(self._documents[key]) for key in found)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the names directly below a prefix."""
        below = (key.removeprefix(prefix) for key in self._documents if key.startswith(prefix))
        return tuple(sorted({name.split("/")[0] for name in below}))

    def write(self, key: str, data: Any, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write a document, if what is there is what is expected."""
        found = self._documents.get(key)
        if if_absent and found is not None:
            raise AlreadyExists(f"{key} exists already", retryable=False)
        if if_match is not None and found != if_match:
            raise PreconditionFailed(f"{key} has been changed by somebody else")
        self._put(key, json.loads(data))
        return self._documents[key]


class OperatorStore(BucketStore):
    """The bucket as the operator reaches it: S3 may fail, and so may its own writes."""

    def __init__(self, bucket: Bucket, pen: Pen) -> None:
        super().__init__(bucket)
        self._bucket = bucket
        self._pen = pen

    def read(self, key: str, limit: int | None = None) -> tuple[bytes, str] | None:
        """Return a document and its ETag. Raises StoreError."""
        self._bucket.fail()
        return super().read(key, limit)

    def fetch_jsons(self, prefix: str, after: str = "") -> Callable[[], tuple[dict[str, Any], ...]]:
        """Return what parses the documents below a prefix. Raises StoreError."""
        self._bucket.fail()
        return super().fetch_jsons(prefix, after)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the names directly below a prefix. Raises StoreError."""
        self._bucket.fail()
        return super().folders(prefix)

    def write(self, key: str, data: Any, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write a document, or fail at it. Raises StoreError."""
        self._bucket.fail()
        words = f"write {key}"
        if key.split("/")[2] == "aliases":
            _, model, _, name = key.split("/")
            words = f"move {name.removesuffix('.json')} of {model} to {json.loads(data)['version']}"

        def write() -> str:
            return super(OperatorStore, self).write(key, data, if_absent=if_absent, if_match=if_match)

        etag = self._pen.write(words, write, PreconditionFailed(words), StoreError(words))
        if self._bucket.answers_lost_ahead:
            self._bucket.answers_lost_ahead -= 1
            raise StoreError("the answer was lost")
        return etag
