"""S3 from an event loop: credentials from Secrets, blocking calls in threads, a short pause after a failure."""

import asyncio
import base64
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from modelwright.kube import errors
from modelwright.kube.client import Client
from modelwright.kube.resources import SECRET
from modelwright.plan.pods import CREDENTIALS
from modelwright.plan.questions import Store
from modelwright.registry.errors import StoreError
from modelwright.registry.store import Credentials, ObjectStore, open_store

T = TypeVar("T")

_THREADS = 8
_SECONDS = 30.0
_CREDENTIALS_SECONDS = 60.0
_PAUSE_SECONDS = 5.0
"""After a failure nobody waits for the same store again for so long: an outage must not hold every worker."""
_OPEN_STORES = 64
# A blocking call cannot be cancelled; the threads it may hold are its own.
_Identity = tuple[Store, str]


@dataclass(frozen=True)
class _Known:
    credentials: Credentials
    until: float


class Stores:
    """All object stores that resources name. Methods raise StoreError."""

    def __init__(
        self,
        client: Client,
        opener: Callable[..., ObjectStore] = open_store,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._opener = opener
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
        self._known: dict[tuple[str, str], _Known] = {}
        self._open: OrderedDict[_Identity, ObjectStore] = OrderedDict()
        self._failed: dict[Store, tuple[float, str]] = {}

    async def call(self, store: Store, function: Callable[[ObjectStore], T]) -> T:
        """Run a function on an open store in a thread, for at most 30 seconds."""
        until, message = self._failed.get(store, (0.0, ""))
        if self._clock() < until:
            raise StoreError(message)
        try:
            async with asyncio.timeout(_SECONDS):
                opened = await self._opened(store)
                return await asyncio.get_running_loop().run_in_executor(self._threads, function, opened)
        except TimeoutError:
            raise self._pause(store, StoreError("The S3 server does not answer: check storage.endpoint")) from None
        except StoreError as error:
            if error.retryable:
                self._pause(store, error)
            raise

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _pause(self, store: Store, error: StoreError) -> StoreError:
        now = self._clock()
        self._failed = {known: failure for known, failure in self._failed.items() if failure[0] > now}
        self._failed[store] = (now + _PAUSE_SECONDS, error.message)
        return error

    async def _opened(self, store: Store) -> ObjectStore:
        credentials = await self._credentials(store)
        mark = "" if credentials is None else _digest(credentials)
        identity = (store, mark)
        if identity not in self._open:
            # Building a client reads botocore's models from disk: tens of milliseconds that the event loop must not
            # wait for.
            opened = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._opener, store.storage, credentials
            )
            self._open[identity] = opened
            if len(self._open) > _OPEN_STORES:
                self._open.popitem(last=False)
        self._open.move_to_end(identity)
        return self._open[identity]

    async def _credentials(self, store: Store) -> Credentials | None:
        if store.secret_name is None:
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
        return Credentials(*(base64.b64decode(data[key]).decode().strip() for key in CREDENTIALS))


def _digest(credentials: Credentials) -> str:
    joined = f"{credentials.access_key_id}\0{credentials.secret_access_key}"
    return hashlib.sha256(joined.encode()).hexdigest()
