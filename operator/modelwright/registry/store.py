"""Objects on S3 below a storage URI. Thin over boto3: keys are relative, errors are sentences."""

import io
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, InvalidRegionError
from pydantic import ValidationError

from modelwright.api.run import ResolvedStorage
from modelwright.api.schema import ApiModel
from modelwright.registry.bounded import BoundedSession
from modelwright.registry.errors import (
    AlreadyExists,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    UnreadableDocument,
    translate,
)
from modelwright.registry.weight import HEAVIEST, HEAVIEST_AT_ONCE, HEAVIEST_REFERENCE, weigh

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, PutObjectRequestTypeDef

Document = TypeVar("Document", bound=ApiModel)

_session = boto3.session.Session()
"""One for all clients: with a session of its own, a client takes 12 MiB for what botocore knows of S3."""
_opening = threading.Lock()
"""A session makes one client at a time; clients may be used from many threads."""

_CONNECT_SECONDS = 5
_CONNECTIONS = 8
_PARALLEL = 4
"""Documents that are fetched at once: enough to hide the network, for boto3 takes 3.5 ms of CPU for each."""
_LARGEST_DOCUMENT = 16 * 2**20
"""Bytes. Anybody who may write to a bucket may put anything there."""
_LARGEST_PUT = 64 * 2**20
"""Bytes that are written in one request. S3 takes 5 GiB, but a request that breaks off begins anew."""
_MOST_DOCUMENTS = 5000
"""So many are read together: 18 s on one core."""
_MOST_BYTES = 32 * 2**20
"""So much may they hold together."""
_PAGE = 500
_MOST_PAGES = 256
"""In one listing of a wary reader: 128,000 names. A server may send pages without end."""
_MOST_NAMES = 8 * 2**20
"""Characters of these names. S3 takes 1,024 for one; a server may invent longer ones."""


@dataclass(frozen=True)
class Credentials:
    """Keys of an account; they never appear in a repr."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True)
class Entry:
    """One object in a listing."""

    key: str
    size: int
    etag: str


class ObjectStore:
    """The objects below one storage URI. Methods may be called from many threads, and raise `StoreError`.

    A wary one lists no more than fits the memory of a process that reads what others own.
    """

    def __init__(self, client: "S3Client", uri: str, server: str, *, wary: bool = False) -> None:
        parts = urlsplit(uri)
        self.uri = uri.rstrip("/")
        self.bucket = parts.netloc
        self._base = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self._client = client
        self._server = server
        self._wary = wary

    def at(self, uri: str) -> "ObjectStore":
        """Return the store of another URI on the same server, with the same credentials."""
        return ObjectStore(self._client, uri, self._server, wary=self._wary)

    def locate(self, key: str) -> str:
        """Return the full URI of a key."""
        return f"{self.uri}/{key}"

    def read(self, key: str, limit: int | None = None) -> tuple[bytes, str] | None:
        """Return an object's bytes and ETag; None when there is no such object.

        Raises `UnreadableDocument` when there are more than `limit` bytes.
        """
        try:
            with self._translated(key):
                answer = self._client.get_object(Bucket=self.bucket, Key=self._base + key)
                with closing(answer["Body"]) as body:
                    data = body.read(None if limit is None else limit + 1)
                    # Only a read to the end checks the length. What the header says of it is a claim.
                    if limit is not None and (len(data) > limit or body.read(1)):
                        raise UnreadableDocument(
                            f"{self.locate(key)} is larger than {limit:,} bytes: no such document is", retryable=False
                        )
                return data, answer["ETag"]
        except ObjectNotFound:
            return None

    def read_bytes(self, key: str) -> bytes | None:
        """Return an object's bytes; None when there is no such object."""
        found = self.read(key)
        return None if found is None else found[0]

    def read_json(self, key: str, heaviest: int = HEAVIEST) -> dict[str, Any] | None:
        """Return a JSON document; None when there is no such object.

        Raises `UnreadableDocument` when it would take more than `heaviest` bytes of memory.
        """
        return self.fetch_json(key, heaviest)()

    def fetch_json(self, key: str, heaviest: int) -> Callable[[], dict[str, Any] | None]:
        """Read a JSON document and return what parses it; see `read_json`. The text takes less memory than that."""
        found = self.read(key, min(heaviest, _LARGEST_DOCUMENT))
        return partial(self._parse, key, found[0], heaviest) if found is not None else lambda: None

    def read_document(self, key: str, kind: type[Document], heaviest: int | None = None) -> Document | None:
        """Return a document of a known kind; None when there is no such object."""
        found = self.find(key, kind, heaviest)
        return None if found is None else found[0]

    def find(self, key: str, kind: type[Document], heaviest: int | None = None) -> tuple[Document, str] | None:
        """Return a document of a known kind and its ETag, for a later `if_match`; None when there is no such object."""
        found = self.read(key, min(heaviest or _LARGEST_DOCUMENT, _LARGEST_DOCUMENT))
        if found is None:
            return None
        try:
            return kind.model_validate(self._parse(key, found[0], heaviest)), found[1]
        except ValidationError as error:
            raise UnreadableDocument(f"{self.locate(key)} is not a {kind.__name__}", retryable=False) from error

    def fetch_jsons(self, prefix: str, after: str = "") -> Callable[[], tuple[dict[str, Any], ...]]:
        """Read every JSON document below a prefix whose key sorts after `after`; return what parses them, in key order.

        One that cannot be read is left out: a broken file must not hide the others. Raises `StoreError` when there are
        more of them, or larger ones, than memory and time are for.
        """
        entries = self._documents(prefix, after)
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3-get") as pool:
            found = tuple(data for data in pool.map(self._read_if_readable, entries) if data is not None)
        if sum(map(weigh, found)) > HEAVIEST_AT_ONCE:
            raise _too_many(f"{HEAVIEST_AT_ONCE:,} bytes of memory", self._below(prefix, after))
        return partial(_objects, found)

    def download(self, key: str, path: Path) -> None:
        """Fetch an object into a file, which appears only when it is whole. Raises `ObjectNotFound`."""
        with self._translated(key):
            self._client.download_file(self.bucket, self._base + key, os.fspath(path))

    def write(self, key: str, data: bytes | Path, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Write an object and return its ETag.

        Raises `AlreadyExists` when it was to be absent and is not, and `PreconditionFailed` when its ETag is not
        `if_match`. The client repeats a write whose answer was lost, so either error may speak of our own first try:
        callers read back what is there before they call it a conflict.
        """
        request: PutObjectRequestTypeDef = {"Bucket": self.bucket, "Key": self._base + key}
        if if_absent:
            request["IfNoneMatch"] = "*"
        if if_match is not None:
            request["IfMatch"] = if_match
        try:
            with self._translated(key), io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as body:
                request["Body"] = body
                return self._client.put_object(**request)["ETag"]
        except PreconditionFailed as error:
            if if_absent:
                raise AlreadyExists(f"{self.locate(key)} exists already", retryable=False) from error
            raise
        except ObjectNotFound as error:
            # If-Match on an object that is gone is a 404 on some servers and a 412 on others.
            raise PreconditionFailed(f"{self.locate(key)} is gone") from error

    def upload(self, key: str, data: bytes | Path) -> None:
        """Write an object of any size: what is large goes in pieces, several at a time."""
        if (len(data) if isinstance(data, bytes) else data.stat().st_size) <= _LARGEST_PUT:
            self.write(key, data)
            return
        with self._translated(key), io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as body:
            self._client.upload_fileobj(body, self.bucket, self._base + key)

    def write_json(
        self, key: str, document: dict[str, Any], *, if_absent: bool = False, if_match: str | None = None
    ) -> str:
        """Write a JSON document and return its ETag; errors as in `write`."""
        return self.write(key, json.dumps(document, indent=1).encode(), if_absent=if_absent, if_match=if_match)

    def list(self, prefix: str, after: str = "") -> tuple[Entry, ...]:
        """Return the objects below a prefix whose key sorts after `after`, in key order."""
        return tuple(sorted(self._entries(prefix, after), key=lambda entry: entry.key))

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the names of what lies directly below a prefix and has something below itself."""
        whole = self._base + prefix
        with self._translated(prefix):
            pages = self._pages(whole, Delimiter="/")
            found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
        return tuple(name.removeprefix(whole).rstrip("/") for name in found)

    def delete(self, key: str) -> None:
        """Delete an object; one that is gone already is no error."""
        with self._translated(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._base + key)

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object below a prefix."""
        # One by one: servers disagree about the checksum that a bulk delete must carry.
        for entry in self.list(prefix):
            self.delete(entry.key)

    def _entries(self, prefix: str, after: str) -> Iterator[Entry]:
        with self._translated(prefix):
            for page in self._pages(self._base + prefix, StartAfter=self._base + after if after else ""):
                for item in page.get("Contents", ()):
                    yield Entry(item["Key"].removeprefix(self._base), item["Size"], item["ETag"])

    def _pages(self, prefix: str, **more: Any) -> Iterator["ListObjectsV2OutputTypeDef"]:
        names = 0
        listing = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, PaginationConfig={"PageSize": _PAGE}, **more
        )
        for number, page in enumerate(listing, 1):
            names += sum(len(item["Key"]) for item in page.get("Contents", ()))
            names += sum(len(item["Prefix"]) for item in page.get("CommonPrefixes", ()))
            if self._wary and (number > _MOST_PAGES or names > _MOST_NAMES):
                raise StoreError(
                    f"There is more below s3://{self.bucket}/{prefix} than is listed at once",
                    retryable=False,
                )
            yield page

    def _documents(self, prefix: str, after: str) -> tuple[Entry, ...]:
        found, size = [], 0
        for entry in self._entries(prefix, after):
            if not entry.key.endswith(".json") or entry.size > _LARGEST_DOCUMENT:
                continue
            found.append(entry)
            size += entry.size
            if len(found) > _MOST_DOCUMENTS or size > _MOST_BYTES:
                most = f"{_MOST_DOCUMENTS:,} documents or {_MOST_BYTES:,} bytes"
                raise _too_many(most, self._below(prefix, after))
        return tuple(sorted(found, key=lambda entry: entry.key))

    def _below(self, prefix: str, after: str) -> str:
        return f"below {self.locate(prefix)} after {after}" if after else f"below {self.locate(prefix)}"

    def _read_if_readable(self, entry: Entry) -> bytes | None:
        try:
            # What is larger than it was listed with was not counted.
            found = self.read(entry.key, entry.size)
        except UnreadableDocument:
            return None
        return None if found is None or weigh(found[0]) > HEAVIEST_REFERENCE else found[0]

    def _parse(self, key: str, data: bytes, heaviest: int | None) -> dict[str, Any]:
        if heaviest is not None and weigh(data) > heaviest:
            raise UnreadableDocument(
                f"{self.locate(key)} would take more than {heaviest:,} bytes of memory: no such document does",
                retryable=False,
            )
        document = _object(data)
        if document is None:
            raise UnreadableDocument(f"{self.locate(key)} is not a JSON object", retryable=False)
        return document

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise translate(error, self._server, self.bucket, self._base + key) from error


def open_store(
    storage: ResolvedStorage,
    credentials: Credentials | None = None,
    *,
    read_seconds: float = 60,
    attempts: int = 5,
    wary: bool = False,
) -> ObjectStore:
    """Return the store of a storage place. Without credentials the environment's own are used.

    A request is tried `attempts` times in all, and waits for so long for each piece of its answer. Nothing is sent yet.
    Raises `StoreError` when the endpoint is no URL, or the region no name.
    """
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=read_seconds,
        # botocore counts `total_max_attempts` as people do; its `max_attempts` is without the first.
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=_CONNECTIONS,
        # Buckets of other servers are seldom names in DNS, and such servers may not know the newer checksums.
        s3={"addressing_style": "path" if storage.endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    server = server_name(storage)
    try:
        _check_port(storage)
        with _opening:
            client = _session.client(
                "s3",
                endpoint_url=storage.endpoint,
                region_name=storage.region or _session.region_name or "us-east-1",
                aws_access_key_id=credentials.access_key_id if credentials else None,
                aws_secret_access_key=credentials.secret_access_key if credentials else None,
                config=config,
            )
    except InvalidRegionError as error:
        raise StoreError(f"storage.region {storage.region} is not the name of a region", retryable=False) from error
    except ValueError as error:
        raise StoreError(f"storage.endpoint {server} is not the URL of a server", retryable=False) from error
    # No setting bounds what botocore reads.
    endpoint = vars(client)["_endpoint"]
    endpoint.http_session = BoundedSession(endpoint.http_session, server)
    return ObjectStore(client, storage.uri, server, wary=wary)


def server_name(storage: ResolvedStorage) -> str:
    """Return the server of a storage place for a sentence: without user information."""
    if storage.endpoint is None:
        return "Amazon S3"
    parts = urlsplit(storage.endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _objects(texts: Iterable[bytes]) -> tuple[dict[str, Any], ...]:
    return tuple(document for document in map(_object, texts) if document is not None)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _too_many(most: str, where: str) -> StoreError:
    return StoreError(
        f"There are more than {most} {where}: so many are not read at once",
        retryable=False,
    )


def _check_port(storage: ResolvedStorage) -> None:
    """Raise ValueError when the endpoint's port is no number: the client would find out only when it connects."""
    _ = urlsplit(storage.endpoint or "").port
