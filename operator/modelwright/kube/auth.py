"""Who is calling: pods by their projected tokens, Alertmanager by a shared one."""

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelwright.api.run import TOKEN_AUDIENCE
from modelwright.kube.client import Client
from modelwright.plan.actions import Object

_GOOD_SECONDS = 60.0
_BAD_SECONDS = 10.0
_REMEMBERED = 10_000
_REVIEWS_AT_ONCE = 4
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_USER_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True)
class PodIdentity:
    """The pod that a token is bound to."""

    namespace: str
    name: str
    uid: str


def identity_of(review: Object) -> PodIdentity | None:
    """Return the pod that the status of a TokenReview speaks of; None when the token proves no pod to us."""
    if not review.get("authenticated") or TOKEN_AUDIENCE not in (review.get("audiences") or []):
        return None
    user = review.get("user") or {}
    extra = user.get("extra") or {}
    names, uids = extra.get(_POD_NAME) or [], extra.get(_POD_UID) or []
    username = str(user.get("username", ""))
    if not username.startswith(_USER_PREFIX) or len(names) != 1 or len(uids) != 1:
        return None
    return PodIdentity(username.removeprefix(_USER_PREFIX).partition(":")[0], names[0], uids[0])


class PodTokens:
    """Checks tokens by TokenReview, and remembers the answers for a minute."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, PodIdentity | None]] = OrderedDict()
        # A flood of made-up tokens must not become a flood of reviews.
        self._reviews = asyncio.Semaphore(_REVIEWS_AT_ONCE)

    async def pod(self, token: str) -> PodIdentity | None:
        """Return the pod that shows a token; None when it is not to be believed. Raises ApiError."""
        if not token.isascii():
            # No JWT, and a review could not even be written down.
            return None
        digest = fingerprint(token)
        known = self._remembered(digest)
        if known is None:
            async with self._reviews:
                known = self._remembered(digest)
                if known is None:
                    identity = identity_of(await self._client.review_token(token, TOKEN_AUDIENCE))
                    seconds = _BAD_SECONDS if identity is None else _GOOD_SECONDS
                    known = self._known[digest] = (self._clock() + seconds, identity)
                    if len(self._known) > _REMEMBERED:
                        self._known.popitem(last=False)
        return known[1]

    def _remembered(self, digest: str) -> tuple[float, PodIdentity | None] | None:
        known = self._known.get(digest)
        return known if known is not None and self._clock() < known[0] else None


class Rate:
    """At most one request a second for each caller on the long run, ten in a burst."""

    def __init__(
        self, per_second: float = 1.0, burst: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def allows(self, caller: str) -> bool:
        """Return whether a request may pass, and count it if so."""
        now = self._clock()
        full_at = max(self._full_at.get(caller, now), now) + 1 / self._per_second
        if full_at - now > self._burst / self._per_second:
            return False
        self._full_at[caller] = full_at
        self._full_at.move_to_end(caller)
        if len(self._full_at) > _REMEMBERED:
            self._full_at.popitem(last=False)
        return True


def fingerprint(token: str) -> str:
    """Return what stands for a token in memory."""
    return hashlib.sha256(_bytes(token)).hexdigest()


def bearer(header: str | None) -> str | None:
    """Return the token of an Authorization header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def expected_token(file: Path | None) -> str | None:
    """Return the token in a file, as it is now (it may be rotated); None when there is none."""
    try:
        return (file.read_text("utf-8", "surrogateescape").strip() or None) if file is not None else None
    except OSError:
        return None


def matches(shown: str | None, expected: str) -> bool:
    """Compare in constant time."""
    return shown is not None and hmac.compare_digest(_bytes(shown), _bytes(expected))


def _bytes(token: str) -> bytes:
    # As aiohttp decodes a header: bytes that are no UTF-8 come as lone surrogates.
    return token.encode(errors="surrogateescape")
