"""Alertmanager: a notification is repeated until the operator's webhook has answered it, and while its alert fires."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelwright.kube.objects import Key
from modelwright.plan import alerts
from modelwright.plan.observed import Alert
from modelwright.plan.times import stamp
from tests.simulation.operator import Operator
from tests.simulation.world import World

PATIENCE = timedelta(seconds=10)
"""So long the webhook lets Alertmanager wait for a plan; then it answers 503."""
AGAIN = timedelta(seconds=2)
"""From a notification that was not answered with 200 to the next."""
REPEAT = timedelta(minutes=2)
"""From one that was to the next, while the alert fires."""


@dataclass
class _Post:
    """A request that is under way; the process that has it may die."""

    operator: Operator
    future: asyncio.Future[None]
    firing: dict[str, str]
    """What it tells: since when an alert fires, by its fingerprint."""
    at: datetime


@dataclass
class Alertmanager:
    """Sends what fires to one policy, as one group."""

    world: World
    policy: Key
    labels: dict[str, str]
    firing: dict[str, str] = field(default_factory=dict)
    """Since when an alert fires, by its fingerprint."""
    answered: dict[tuple[str, str], Alert] = field(default_factory=dict)
    """What was answered with 200 because this policy has dealt with it."""
    _due: dict[str, datetime] = field(default_factory=dict)
    _post: _Post | None = None

    def __post_init__(self) -> None:
        """Take a place in the world."""
        self.world.controllers.append(self)
        self.world.alarms.append(self.alarms)

    def fire(self, fingerprint: str) -> None:
        """Let an alert begin, unless it has already."""
        if fingerprint not in self.firing:
            self.firing[fingerprint] = stamp(self.world.now)
            self._due[fingerprint] = self.world.now

    def resolve(self, fingerprint: str) -> None:
        """Let an alert end; what nobody answered is forgotten."""
        self.firing.pop(fingerprint, None)
        self._due.pop(fingerprint, None)

    def repeat(self) -> None:
        """Send everything that fires once more."""
        self._due = dict.fromkeys(self.firing, self.world.now)

    def step(self) -> None:
        """Hear what became of the request that is under way, or send the next one."""
        if self._post is not None:
            self._follow(self._post)
        elif due := [name for name, at in sorted(self._due.items()) if at <= self.world.now]:
            self._send(due)

    def alarms(self) -> Iterable[datetime]:
        """Return when something will happen here by itself."""
        return [self.world.now] if self._post is not None else self._due.values()

    def _send(self, due: Iterable[str]) -> None:
        operator, policy = self.world.operator, self.world.operator.view(self.policy)
        told = {name: self.firing[name] for name in due}
        entries = [
            {"status": "firing", "fingerprint": name, "startsAt": since, "labels": self._labels(name)}
            for name, since in told.items()
        ]
        found = alerts.decode({"version": alerts.PAYLOAD_VERSION, "alerts": entries})
        concerned = alerts.for_policy(found, policy) if policy is not None else ()
        self._post = _Post(operator, operator.submit(self.policy, concerned), told, self.world.now)

    def _follow(self, post: _Post) -> None:
        died = post.operator is not self.world.operator
        if not died and post.future.done():
            for name in self._still_firing(post):
                alert = Alert(name, self.firing[name], self._labels(name))
                self.answered[name, alert.starts_at] = alert
            self._wait(post, REPEAT)
        elif died or self.world.now >= post.at + PATIENCE:
            post.operator.withdraw(self.policy, post.future)
            self._wait(post, AGAIN)

    def _wait(self, post: _Post, time: timedelta) -> None:
        self._post = None
        self._due |= dict.fromkeys(self._still_firing(post), self.world.now + time)

    def _still_firing(self, post: _Post) -> list[str]:
        """Return what a request told of; what has ended since and begun again is another alert."""
        return [name for name, since in post.firing.items() if self.firing.get(name) == since]

    def _labels(self, fingerprint: str) -> dict[str, str]:
        return {**self.labels, "alertname": f"Alert{fingerprint}"}
