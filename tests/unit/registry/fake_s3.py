"""An S3 client over a dict: the calls that `ObjectStore` makes, with S3's answers to conditions."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from modelwright.registry.store import ObjectStore


def refusal(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation")


class FakeS3:
    """One bucket. `before_put` runs ahead of each write, as a rival would; `ignores` names conditions not honoured."""

    def __init__(self, ignores: str = "") -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.before_put: dict[str, Any] = {}
        self.lose_answer_of: set[str] = set()
        self.ignores = ignores

    def _etag(self, key: str) -> str:
        return f'"{hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()}"'

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        if Key not in self.objects:
            raise refusal("NoSuchKey", 404)
        return {"Body": io.BytesIO(self.objects[Key]), "ETag": self._etag(Key)}

    def put_object(self, Bucket: str, Key: str, Body: BinaryIO, **conditions: str) -> dict[str, Any]:  # noqa: N803
        rival = self.before_put.pop(Key, None)
        if rival is not None:
            rival()
        first_try_lost = Key in self.lose_answer_of
        if first_try_lost:
            self.lose_answer_of.remove(Key)
            data = Body.read()
            Body.seek(0)
            self._check(Key, conditions)
            self.objects[Key] = data
        self._check(Key, conditions)
        self.objects[Key] = Body.read()
        self.puts.append(Key)
        return {"ETag": self._etag(Key)}

    def _check(self, key: str, conditions: dict[str, str]) -> None:
        if "IfNoneMatch" in conditions and self.ignores != "If-None-Match" and key in self.objects:
            raise refusal("PreconditionFailed", 412)
        if "IfMatch" in conditions and self.ignores != "If-Match":
            if key not in self.objects:
                raise refusal("NoSuchKey", 404)
            if conditions["IfMatch"] != self._etag(key):
                raise refusal("PreconditionFailed", 412)

    def download_file(self, bucket: str, key: str, path: str) -> None:
        if key not in self.objects:
            raise refusal("404", 404)
        Path(path).write_bytes(self.objects[key])

    def delete_object(self, Bucket: str, Key: str) -> None:  # noqa: N803
        self.objects.pop(Key, None)

    def get_paginator(self, operation: str) -> "FakeS3":
        assert operation == "list_objects_v2"
        return self

    def paginate(
        self,
        Bucket: str,  # noqa: N803
        Prefix: str,  # noqa: N803
        StartAfter: str = "",  # noqa: N803
        Delimiter: str = "",  # noqa: N803
        PaginationConfig: Any = None,  # noqa: N803
    ) -> Iterator[dict[str, Any]]:
        keys = sorted(key for key in self.objects if key.startswith(Prefix) and key > StartAfter)
        if Delimiter:
            folders = {Prefix + key.removeprefix(Prefix).split("/")[0] + "/" for key in keys}
            yield {"CommonPrefixes": [{"Prefix": name} for name in sorted(folders)]}
            return
        for key in keys:  # a page each, so that paging is exercised
            yield {"Contents": [{"Key": key, "Size": len(self.objects[key]), "ETag": self._etag(key)}]}


def memory_store(client: Any = None, uri: str = "s3://bucket/base") -> ObjectStore:
    return ObjectStore(client or FakeS3(), uri, "https://s3.test")
