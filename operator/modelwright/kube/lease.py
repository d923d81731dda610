"""Leader election by a Lease: only its holder reconciles.

`kubernetes.aio.leaderelection` was looked at first. Its lock stamps local time with a Z, a network error ends the
election with a traceback, and it cannot release the Lease, so a hand-over always takes the whole lease duration. The
protocol is client-go's.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from modelwright.kube import errors
from modelwright.kube.client import Client
from modelwright.kube.resources import LEASE
from modelwright.plan.actions import Object

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Seconds, as in client-go."""

    duration: float = 15.0
    """A Lease that has not changed for so long is free."""
    deadline: float = 10.0
    """A leader that could not renew for so long has lost."""
    period: float = 2.0
    """Between two tries."""


class LostError(Exception):
    """This process does not hold the Lease any more, or cannot know it."""


class Election:
    """One candidate."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing or Timing()
        self._clock = clock
        self._seen: tuple[str, str] | None = None
        self._seen_at = 0.0
        self._renewed = float("-inf")
        self.holder = ""
        """Who holds it, as last seen."""

    @property
    def leading(self) -> bool:
        """Whether this process surely holds the Lease: nobody else may take it before its duration is over."""
        return self._clock() < self._renewed + self._timing.duration

    def check(self) -> None:
        """Raise LostError when this process may not write."""
        if not self.leading:
            raise LostError("the Lease is not renewed: writing stops")

    async def acquire(self) -> None:
        """Return once this process holds the Lease."""
        while not await self._try():  # noqa: ASYNC110 (the event is in another process)
            await asyncio.sleep(self._timing.period)
        log.info("leading as %s", self._identity)

    async def keep(self) -> None:
        """Renew until that fails for too long. Raises LostError."""
        while True:
            await asyncio.sleep(self._timing.period)
            renewed = await self._try()
            if not renewed and self.holder not in (self._identity, ""):
                self._renewed = float("-inf")
                raise LostError(f"the Lease was taken by {self.holder}")
            if self._clock() > self._renewed + self._timing.deadline:
                self._renewed = float("-inf")
                raise LostError(f"the Lease could not be renewed for {self._timing.deadline:.0f} s")

    async def release(self) -> None:
        """Give the Lease up, so that another replica need not wait."""
        if not self.leading:
            return
        self._renewed = float("-inf")
        try:
            lease = await self._client.get(LEASE, self._namespace, self._name)
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                await self._client.replace(LEASE, lease)
                log.info("the Lease is released")
        except errors.ApiError as error:
            log.warning("the Lease was not released: %s", error.message)

    async def _try(self) -> bool:
        begun = self._clock()
        try:
            async with asyncio.timeout(self._timing.deadline / 2):
                won = await self._take()
        except (errors.ApiError, TimeoutError) as error:
            log.debug("the Lease was not taken: %s", error)
            return False
        if won:
            # From before the call: the server's clock started no earlier.
            self._renewed = begun
            self.holder = self._identity
        return won

    async def _take(self) -> bool:
        try:
            lease = await self._client.get(LEASE, self._namespace, self._name)
        except errors.NotFound:
            await self._client.create(LEASE, self._new())
            return True
        spec = lease.setdefault("spec", {})
        holder = self.holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._stale(spec):
            return False
        if holder != self._identity:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = spec.get("leaseTransitions", 0) + 1
        spec |= self._mine()
        await self._client.replace(LEASE, lease)
        return True

    def _stale(self, spec: Object) -> bool:
        # Measured by this clock since the last change that was seen: clocks of other machines are not to be trusted.
        now, state = self._clock(), (spec.get("holderIdentity", ""), spec.get("renewTime", ""))
        if state != self._seen:
            self._seen, self._seen_at = state, now
        return now >= self._seen_at + float(spec.get("leaseDurationSeconds", self._timing.duration))

    def _mine(self) -> Object:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.duration)),
            "renewTime": _now(),
        }

    def _new(self) -> Object:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {**self._mine(), "acquireTime": _now(), "leaseTransitions": 0},
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
