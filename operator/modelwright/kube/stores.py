"""S3 from an event loop: credentials from Secrets, blocking calls in threads, a short pause after a failure."""

import asyncio
import base64
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from modelwright.api.run import ResolvedStorage
from modelwright.kube import errors
from modelwright.kube.client import Client
from modelwright.kube.resources import SECRET
from modelwright.plan.pods import CREDENTIALS
from modelwright.plan.questions import Store
from modelwright.registry.errors import StoreError
from modelwright.registry.store import Credentials, ObjectStore, open_store, server_name

T = TypeVar("T")

_THREADS = 4
"""For one server in one namespace. A blocking call cannot be cancelled: one that hangs holds nobody else's threads."""
_SECONDS = 30.0
_READ_SECONDS = 10.0
_ATTEMPTS = 2
"""With 5 s to connect, a call that was given up lets its thread go soon after."""
_CREDENTIALS_SECONDS = 60.0
_PAUSE_SECONDS = 5.0
"""After a failure nobody waits for the same store again for so long: an outage must not hold every worker."""
_FAILURE_SECONDS = 3600.0
_OPEN_STORES = 64
_LANES = 64

_Identity = tuple[Store, str]
_Server = tuple[str, str | None]
"""A namespace, and an endpoint that is named in it."""

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
    ) -> None:
        self._client = client
        self._opener = opener
        self._clock = clock
        self._ambient = ambient
        self._lanes: OrderedDict[_Server, ThreadPoolExecutor] = OrderedDict()
        self._known: dict[tuple[str, str], _Known] = {}
        self._open: OrderedDict[_Identity, ObjectStore] = OrderedDict()
        self._failed: dict[Store, _Failure] = {}

    async def call(self, store: Store, function: Callable[[ObjectStore], T]) -> T:
        """Run a function on an open store in a thread, for at most 30 seconds."""
        self._respect_pause(store)
        begun = threading.Event()

        def work(opened: ObjectStore) -> T:
            begun.set()
            return function(opened)

        try:
            credentials = await self._credentials(store)
            async with asyncio.timeout(_SECONDS):
                opened = await self._opened(store, credentials)
                found = await asyncio.get_running_loop().run_in_executor(self._lane(store), work, opened)
        except TimeoutError:
            raise self._pause(store, _late(store, begun=begun.is_set())) from None
        except StoreError as error:
            if error.retryable:
                self._pause(store, error)
            else:
                self._failed.pop(store, None)
            raise
        self._failed.pop(store, None)
        return found

    def close(self) -> None:
        """Let the threads go."""
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)

    def _respect_pause(self, store: Store) -> None:
        failure, now = self._failed.get(store), self._clock()
        if failure is None:
            return
        if now < failure.until:
            raise StoreError(failure.message)
        # One caller finds out whether it is over. Till then the others are told what is known: waiting is for one.
        self._failed[store] = _Failure(failure.message, now + _SECONDS)

    def _pause(self, store: Store, error: StoreError) -> StoreError:
        now = self._clock()
        self._failed = {
            known: failure for known, failure in self._failed.items() if failure.until + _FAILURE_SECONDS > now
        }
        self._failed[store] = _Failure(error.message, now + _PAUSE_SECONDS)
        return error

    def _lane(self, store: Store) -> ThreadPoolExecutor:
        server = (store.namespace, store.storage.endpoint)
        if server not in self._lanes:
            self._lanes[server] = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
            if len(self._lanes) > _LANES:
                # What it has begun, or was given, it still does.
                self._lanes.popitem(last=False)[1].shutdown(wait=False)
        self._lanes.move_to_end(server)
        return self._lanes[server]

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


def _late(store: Store, *, begun: bool) -> StoreError:
    if begun:
        return StoreError(
            f"A call to {_place(store)} was given up after {_SECONDS:g} s: check storage.endpoint, and whether the "
            "server is slow"
        )
    return StoreError(
        f"A call to {_place(store)} could not begin for {_SECONDS:g} s: those before it, from this namespace to the "
        "same server, have not ended"
    )


def _place(store: Store) -> str:
    return f"{store.storage.uri} at {server_name(store.storage)}"


def _digest(credentials: Credentials) -> str:
    joined = f"{credentials.access_key_id}\0{credentials.secret_access_key}"
    return hashlib.sha256(joined.encode()).hexdigest()
