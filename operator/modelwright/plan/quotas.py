"""Quotas on what gangs may use together: who waits for room, and who goes first.

A gang is let in whole or not at all, so that two of them never hold half of what each needs. Its Job is made suspended,
as for Kueue; whoever lets it in takes the suspension away. For clusters that have no Kueue.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from modelwright.plan.quantity import words


@dataclass(frozen=True)
class Quota:
    """What the gangs of some namespaces may use together."""

    name: str
    resources: Mapping[str, Decimal]
    namespaces: frozenset[str] = frozenset()
    """Empty: all of them."""

    def covers(self, namespace: str) -> bool:
        """Tell whether the gangs of a namespace are counted."""
        return not self.namespaces or namespace in self.namespaces

    def share(self, demand: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Return the part of a demand that this quota limits."""
        return {name: value for name, value in demand.items() if name in self.resources and value}


@dataclass(frozen=True)
class Contender:
    """A gang whose Job has not ended, or that is between two Jobs."""

    identity: str
    """The UID of its Job, or of its owner where that has none; unique."""
    namespace: str
    demand: Mapping[str, Decimal]
    admitted: bool
    """It has its room: its Job is not suspended, or the next one goes on where the last one was."""
    priority: int = 0
    created: str = ""
    """When its owner was created: an attempt that starts again keeps the age of its job."""

    def place(self) -> tuple[int, str, str]:
        """Return what orders those who wait: the smallest goes first."""
        return -self.priority, self.created, self.identity


def limiting(quotas: Iterable[Quota], namespace: str, wanted: Mapping[str, Decimal]) -> tuple[Quota, ...]:
    """Return the quotas in which a gang needs room; none: it does not wait."""
    return tuple(quota for quota in quotas if quota.covers(namespace) and quota.share(wanted))


def impossible(quotas: Iterable[Quota], namespace: str, wanted: Mapping[str, Decimal]) -> str | None:
    """Return why a gang can never be let in, in a sentence; None: it can, once there is room."""
    for quota in limiting(quotas, namespace, wanted):
        for name, value in quota.share(wanted).items():
            if value > quota.resources[name]:
                limit = words(quota.resources[name])
                return f"it needs {words(value)} {name}, and the quota {quota.name} has {limit} in all"
    return None


def admit(quotas: Iterable[Quota], contenders: Iterable[Contender]) -> list[Contender]:
    """Return who may start now, in order: by priority, then by age.

    Who does not fit keeps those behind from the room that it waits for: small gangs cannot starve a large one. One that
    can never fit keeps nobody. Nor does one keep room in a larger quota for which, in a smaller one, it has to wait for
    others of the line anyway: a team that waits in its own quota would have the whole cluster wait with it.
    """
    known = tuple(quotas)
    free = {(quota.name, name): value for quota in known for name, value in quota.resources.items()}
    whole = dict(free)
    waiting = []
    for gang in contenders:
        shares = _shares(known, gang)
        if gang.admitted:
            _take(free, shares)
        elif all(value <= whole[place] for place, value in shares):
            waiting.append((gang, shares))
    admitted, in_line = [], dict(whole)
    for gang, shares in sorted(waiting, key=lambda entry: entry[0].place()):
        if all(free[place] >= value for place, value in shares):
            admitted.append(gang)
        behind = [(place, value) for place, value in shares if in_line[place] < value]
        # What is taken for one that has to wait is kept for it.
        for places in (free, in_line):
            _take(places, behind or shares)
    return admitted


def usage(quotas: Iterable[Quota], contenders: Iterable[Contender]) -> dict[tuple[str, str], Decimal]:
    """Return what is used of each resource of each quota."""
    known = tuple(quotas)
    used = {(quota.name, name): Decimal(0) for quota in known for name in quota.resources}
    for gang in contenders:
        if gang.admitted:
            for place, value in _shares(known, gang):
                used[place] += value
    return used


def waiting_in(quota: Quota, contenders: Iterable[Contender]) -> list[Contender]:
    """Return the gangs that wait for room in a quota."""
    return [gang for gang in contenders if not gang.admitted and limiting((quota,), gang.namespace, gang.demand)]


def _take(free: dict[tuple[str, str], Decimal], shares: list[tuple[tuple[str, str], Decimal]]) -> None:
    for place, value in shares:
        free[place] -= value


def _shares(quotas: tuple[Quota, ...], gang: Contender) -> list[tuple[tuple[str, str], Decimal]]:
    """Return what a gang takes of each resource of each quota that counts it."""
    return [
        ((quota.name, name), value)
        for quota in quotas
        if quota.covers(gang.namespace)
        for name, value in quota.share(gang.demand).items()
    ]
