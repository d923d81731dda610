"""Answers to what plans ask."""

import asyncio
from collections.abc import Callable

from modelwright.api.schema import API_VERSION
from modelwright.kube import errors
from modelwright.kube.client import Client
from modelwright.kube.objects import Key, Objects
from modelwright.kube.resources import EVENT, JOB, RAY_JOB, SECRET, Resource, find
from modelwright.kube.stores import Stores
from modelwright.plan.questions import (
    Answer,
    FailedCreates,
    KindServed,
    ListFolders,
    Question,
    ReadDocument,
    ReadDocuments,
    ReadLive,
    ReadObject,
    SecretExists,
    Store,
    Unavailable,
)
from modelwright.registry.errors import StoreError
from modelwright.registry.store import ObjectStore
from modelwright.registry.weight import HEAVIEST, HEAVIEST_AT_ONCE, HEAVIEST_REFERENCE

_HEAVIEST = {"reference.json": HEAVIEST_REFERENCE, "sweep.json": HEAVIEST_AT_ONCE}
"""What holds an entry for every column, or for every trial, may take more memory than other documents."""
_LIVE = {resource.kind: resource for resource in (JOB, RAY_JOB)}


class Answers:
    """Looks up one answer at a time; none of them raises for what the world is like."""

    def __init__(self, client: Client, objects: Objects, stores: Stores) -> None:
        self._client = client
        self._objects = objects
        self._stores = stores

    async def answer(self, question: Question) -> Answer:
        """Return the answer, or `Unavailable` when it cannot be had now."""
        match question:
            case ReadObject(kind, namespace, name):
                return self._objects.get(Key(kind, namespace, name))
            case ReadLive(kind, namespace, name):
                return await self._live(_LIVE.get(kind) or find(API_VERSION, kind), namespace, name)
            case SecretExists(namespace, name):
                return await self._secret_exists(namespace, name)
            case KindServed(api_version, kind):
                return await self._served(api_version, kind)
            case FailedCreates(namespace, uid):
                return await self._failed_creates(namespace, uid)
            case ReadDocument() | ReadDocuments() | ListFolders():
                return await self._stored(question)

    async def _stored(self, question: ReadDocument | ReadDocuments | ListFolders) -> Answer:
        try:
            return await self._read(question)
        except StoreError as error:
            return Unavailable(error.message)

    async def _read(self, question: ReadDocument | ReadDocuments | ListFolders) -> Answer:
        match question:
            case ReadDocuments(store, prefix, after):
                return await self._parsed_alone(store, lambda opened: opened.fetch_jsons(prefix, after))
            case ListFolders(store, prefix):
                return await self._stores.call(store, lambda opened: opened.folders(prefix))
            case ReadDocument(store, key):
                heaviest = _HEAVIEST.get(key.rpartition("/")[2], HEAVIEST)
                if heaviest == HEAVIEST_AT_ONCE:
                    return await self._parsed_alone(store, lambda opened: opened.fetch_json(key, heaviest))
                heavy = heaviest > HEAVIEST
                return await self._stores.call(store, lambda opened: opened.read_json(key, heaviest), heavy=heavy)

    async def _parsed_alone(self, store: Store, fetch: Callable[[ObjectStore], Callable[[], Answer]]) -> Answer:
        """Fetch side by side with others, and parse alone: only that takes memory that there is once."""
        parse = await self._stores.call(store, fetch, heavy=True)
        await self._stores.alone()
        return await asyncio.to_thread(parse)

    async def _live(self, resource: Resource, namespace: str, name: str) -> Answer:
        try:
            live = await self._client.get(resource, namespace, name)
        except errors.NotFound:
            self._forget(Key(resource.kind, namespace, name))
            return None
        except errors.ApiError as error:
            return Unavailable(error.message)
        self._objects.put(live)
        return live

    def _forget(self, key: Key) -> None:
        record = self._objects.record(key)
        if record is not None:
            self._objects.remove(key, record.uid, record.version)

    async def _failed_creates(self, namespace: str, uid: str) -> Answer:
        fields = f"involvedObject.uid={uid},reason=FailedCreate"
        try:
            pages = [page async for page, _ in self._client.list(EVENT, namespace, fields=fields)]
        except errors.ApiError as error:
            return Unavailable(error.message)
        return tuple(event for page in pages for event in page)

    async def _served(self, api_version: str, kind: str) -> Answer:
        try:
            return kind in await self._client.kinds(api_version)
        except errors.ApiError as error:
            return Unavailable(error.message)

    async def _secret_exists(self, namespace: str, name: str) -> Answer:
        try:
            await self._client.get(SECRET, namespace, name)
        except errors.NotFound:
            return False
        except errors.ApiError as error:
            return Unavailable(error.message)
        return True
