"""What a plan may ask before it decides. The hands answer; an answer that cannot be had is `Unavailable`."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from modelwright.api.run import ResolvedStorage


@dataclass(frozen=True)
class Store:
    """A storage place and the Secret, in a namespace, that opens it."""

    storage: ResolvedStorage
    namespace: str
    secret_name: str | None


@dataclass(frozen=True)
class SecretExists:
    """Is there such a Secret? Answer: bool."""

    namespace: str
    name: str


@dataclass(frozen=True)
class KindServed:
    """Does the API server know a kind that another operator brings? Answer: bool."""

    api_version: str
    kind: str


@dataclass(frozen=True)
class ReadObject:
    """One of our own objects. Answer: the object as a dict, or None."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class ReadLive:
    """An object as the API server has it now, past every cache: asked where acting on an old view would do harm.

    `kind` is one of ours, Job or RayJob. Answer: the object as a dict, or None.
    """

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class FailedCreates:
    """What the API server has said of pods that the Job of a UID was to make. Answer: a tuple of events, as dicts."""

    namespace: str
    uid: str


@dataclass(frozen=True)
class ReadDocument:
    """A JSON document on S3, by its key below the storage URI. Answer: the parsed dict, or None when there is none."""

    store: Store
    key: str


@dataclass(frozen=True)
class ReadDocuments:
    """Every JSON document below a prefix whose key sorts after `after`. Answer: a tuple of dicts, in key order."""

    store: Store
    prefix: str
    after: str


@dataclass(frozen=True)
class ListFolders:
    """What lies directly below a prefix on S3 and has something below itself. Answer: a tuple of names."""

    store: Store
    prefix: str


Question: TypeAlias = (
    SecretExists | KindServed | ReadObject | ReadLive | FailedCreates | ReadDocument | ReadDocuments | ListFolders
)


@dataclass(frozen=True)
class Unavailable:
    """The answer cannot be had now."""

    message: str
    """What failed and what to check, without secrets."""


Answer: TypeAlias = bool | dict[str, Any] | tuple[dict[str, Any], ...] | tuple[str, ...] | Unavailable | None
