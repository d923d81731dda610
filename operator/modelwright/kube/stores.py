"""S3 from an event loop: credentials from Secrets, blocking calls in threads, a short pause after a failure.

A store may be anybody's, and slow. So a look that waits for one holds no hand of the queue. Before it asks it has its
turns, at the server, in its namespace and in all, and keeps them until it ends: till then it holds what was answered.
"""

import asyncio
import base64
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from modelwright.api.run import ResolvedStorage
from modelwright.kube import errors
from modelwright.kube.client import Client
from modelwright.kube.resources import SECRET
from modelwright.kube.turns import Busy, Turns
from modelwright.plan.pods import CREDENTIALS
from modelwright.plan.questions import Store
from modelwright.registry.errors import NoAnswer, StoreError
from modelwright.registry.store import Credentials, ObjectStore, open_store, server_name

T = TypeVar("T")

_AT_A_SERVER = 4
"""Looks of one namespace at once: some are left for its other servers."""
_OF_A_NAMESPACE = 6
"""And threads. A blocking call cannot be cancelled: one that hangs holds nobody else's."""
_IN_ALL = 64
_HEAVY = 3
"""In all, and one of a namespace: what they are sent may be 64 MiB, and take 18 s of CPU."""
_SECONDS = 30.0
_HEAVY_SECONDS = 120.0
_READ_SECONDS = 10.0
_ATTEMPTS = 2
"""With 5 s to connect, a call that was given up lets its thread go soon after."""
_CREDENTIALS_SECONDS = 60.0
_PAUSE_SECONDS = 5.0
"""After a failure nobody waits for the same store again for so long, nor for the server if that gave no answer."""
_FAILURE_SECONDS = 3600.0
_OPEN_STORES = 64
_LANES = 64

_Identity = tuple[Store, str]
_Server = tuple[str, str | None]
"""A namespace, and an endpoint that is named in it."""
_Lend = Callable[[], AbstractAsyncContextManager[None]]

_open_impatiently = partial(open_store, read_seconds=_READ_SECONDS, attempts=_ATTEMPTS, wary=True)


def at_or_below(default: ResolvedStorage | None) -> Callable[[ResolvedStorage], bool]:
    """Return the test for stores that lie in the operator's default store; without one, none does."""

    def tell(storage: ResolvedStorage) -> bool:
        if default is None or storage.endpoint != default.endpoint:
            return False
        return f"{storage.uri.rstrip('/')}/".startswith(f"{default.uri.rstrip('/')}/")

    return tell


@dataclass(frozen=True)
class _Known:
    credentials: Credentials
    until: float


@dataclass(frozen=True)
class _Failure:
    message: str
    until: float


class Stores:
    """All object stores that resources name. Methods raise StoreError.

    `ambient` tells which of them the operator's own cloud identity may open where no Secret is named: anybody who may
    write a resource could otherwise have it read, or have it shown to, any server.
    """

    def __init__(
        self,
        client: Client,
        ambient: Callable[[ResolvedStorage], bool],
        opener: Callable[..., ObjectStore] = _open_impatiently,
        clock: Callable[[], float] = time.monotonic,
        lend: _Lend = nullcontext,
    ) -> None:
        self._client = client
        self._opener = opener
        self._clock = clock
        self._ambient = ambient
        self._lend = lend
        self._turns = Turns()
        self._lanes: OrderedDict[str, ThreadPoolExecutor] = OrderedDict()
        self._known: dict[tuple[str, str], _Known] = {}
        self._open: OrderedDict[_Identity, ObjectStore] = OrderedDict()
        self._failed: dict[Store | _Server, _Failure] = {}

    async def call(self, store: Store, function: Callable[[ObjectStore], T], *, heavy: bool = False) -> T:
        """Run a function on an open store in a thread, for at most 30 seconds, or 120 where much may come of it.

        Raises `Busy` when there was no turn for it for as long.
        """
        self._respect_pause(store)
        credentials = await self._credentials(store)
        async with self._lend():
            if not await self._take(_seconds(heavy=heavy), *_turns(store, heavy=heavy)):
                raise next((StoreError(failure.message) for failure in self._failures(store)), Busy())
            # What those before it found out is known by now.
            self._respect_pause(store)
            self._find_out(store)
            return await self._run(store, credentials, function, heavy=heavy)

    async def alone(self) -> None:
        """Wait until no other look holds what takes much memory; this one may, until it ends. Raises `Busy`."""
        async with self._lend():
            if not await self._take(_SECONDS, ("alone", 1)):
                raise Busy

    async def _take(self, seconds: float, *places: tuple[Hashable, int]) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._turns.take(*places)
        except TimeoutError:
            return False
        return True

    async def _run(
        self,
        store: Store,
        credentials: Credentials | None,
        function: Callable[[ObjectStore], T],
        *,
        heavy: bool,
    ) -> T:
        begun = threading.Event()

        def work(opened: ObjectStore) -> T:
            begun.set()
            return function(opened)

        try:
            async with asyncio.timeout(_seconds(heavy=heavy)):
                opened = await self._opened(store, credentials)
                found = await asyncio.get_running_loop().run_in_executor(self._lane(store), work, opened)
        except TimeoutError:
            raise self._pause(store, _late(store, begun=begun.is_set(), heavy=heavy)) from None
        except StoreError as error:
            if error.retryable:
                raise self._pause(store, error) from None
            self._forget(store)
            raise
        self._forget(store)
        return found

    def close(self) -> None:
        """Let the threads go."""
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)

    def _failures(self, store: Store) -> list[_Failure]:
        return [self._failed[place] for place in (_server(store), store) if place in self._failed]

    def _respect_pause(self, store: Store) -> None:
        for failure in self._failures(store):
            if self._clock() < failure.until:
                raise StoreError(failure.message)

    def _find_out(self, store: Store) -> None:
        """Have one caller find out whether it is over. Till then the others are told what is known."""
        for place in (_server(store), store):
            if place in self._failed:
                self._failed[place] = replace(self._failed[place], until=self._clock() + _SECONDS)

    def _pause(self, store: Store, error: StoreError) -> StoreError:
        now = self._clock()
        self._failed = {
            known: failure for known, failure in self._failed.items() if failure.until + _FAILURE_SECONDS > now
        }
        # A server that answers may have a better answer for another bucket.
        silent = isinstance(error, NoAnswer)
        if not silent:
            self._forget(store)
        self._failed[_server(store) if silent else store] = _Failure(error.message, now + _PAUSE_SECONDS)
        return error

    def _forget(self, store: Store) -> None:
        for place in (_server(store), store):
            self._failed.pop(place, None)

    def _lane(self, store: Store) -> ThreadPoolExecutor:
        if store.namespace not in self._lanes:
            self._lanes[store.namespace] = ThreadPoolExecutor(_OF_A_NAMESPACE, thread_name_prefix="s3")
            if len(self._lanes) > _LANES:
                # What it has begun, or was given, it still does.
                self._lanes.popitem(last=False)[1].shutdown(wait=False)
        self._lanes.move_to_end(store.namespace)
        return self._lanes[store.namespace]

    async def _opened(self, store: Store, credentials: Credentials | None) -> ObjectStore:
        mark = "" if credentials is None else _digest(credentials)
        identity = (store, mark)
        if identity not in self._open:
            # The first client reads botocore's models from disk: the event loop must not wait for that.
            opened = await asyncio.get_running_loop().run_in_executor(
                self._lane(store), self._opener, store.storage, credentials
            )
            self._open[identity] = opened
            if len(self._open) > _OPEN_STORES:
                self._open.popitem(last=False)
        self._open.move_to_end(identity)
        return self._open[identity]

    async def _credentials(self, store: Store) -> Credentials | None:
        if store.secret_name is None:
            if not self._ambient(store.storage):
                raise StoreError(
                    f"storage.secretName is not set: name a Secret that opens {_place(store)}, for the operator's own "
                    "identity is for its default storage only",
                    retryable=False,
                )
            return None
        place = (store.namespace, store.secret_name)
        known = self._known.get(place)
        if known is None or self._clock() >= known.until:
            known = _Known(await self._read(*place), self._clock() + _CREDENTIALS_SECONDS)
            self._known[place] = known
        return known.credentials

    async def _read(self, namespace: str, name: str) -> Credentials:
        try:
            secret = await self._client.get(SECRET, namespace, name)
        except errors.NotFound:
            raise StoreError(f"Secret {namespace}/{name} does not exist: create it", retryable=False) from None
        except errors.ApiError as error:
            raise StoreError(f"Secret {namespace}/{name} cannot be read: {error.message}") from None
        data = secret.get("data") or {}
        missing = [key for key in CREDENTIALS if key not in data]
        if missing:
            raise StoreError(f"Secret {namespace}/{name} has no key {' and no key '.join(missing)}", retryable=False)
        return Credentials(*(_text(f"{namespace}/{name}", key, data[key]) for key in CREDENTIALS))


def _text(secret: str, key: str, encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode().strip()
    except ValueError:
        raise StoreError(f"Secret {secret}: the value of {key} is not text", retryable=False) from None


def _server(store: Store) -> _Server:
    return store.namespace, store.storage.endpoint


def _turns(store: Store, *, heavy: bool) -> tuple[tuple[Hashable, int], ...]:
    turns: tuple[tuple[Hashable, int], ...] = (
        (("server", *_server(store)), _AT_A_SERVER),
        (("namespace", store.namespace), _OF_A_NAMESPACE),
        ("all", _IN_ALL),
    )
    # Waiting for this one is long, so nothing else is held meanwhile.
    return ((("heavy", store.namespace), 1), ("heavy", _HEAVY), *turns) if heavy else turns


def _seconds(*, heavy: bool) -> float:
    return _HEAVY_SECONDS if heavy else _SECONDS


def _late(store: Store, *, begun: bool, heavy: bool) -> StoreError:
    seconds = _seconds(heavy=heavy)
    if not begun:
        return StoreError(
            f"A call to {_place(store)} could not begin for {seconds:g} s: those before it, from this namespace, have "
            "not ended"
        )
    # One of the many requests of a heavy call would have ended it if there were no answers.
    kind = StoreError if heavy else NoAnswer
    return kind(
        f"A call to {_place(store)} was given up after {seconds:g} s: check storage.endpoint, and whether the server "
        "is slow"
    )


def _place(store: Store) -> str:
    return f"{store.storage.uri} at {server_name(store.storage)}"


def _digest(credentials: Credentials) -> str:
    joined = f"{credentials.access_key_id}\0{credentials.secret_access_key}"
    return hashlib.sha256(joined.encode()).hexdigest()
