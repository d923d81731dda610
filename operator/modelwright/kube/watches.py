"""Who depends on whom: the reverse of what plans watch."""

from collections.abc import Iterable

from modelwright.kube.objects import Key
from modelwright.plan.actions import Watch


class WatchIndex:
    """For everything that is watched, who watches it; a new plan of an object replaces what its last plan watched."""

    def __init__(self) -> None:
        self._watches: dict[Key, frozenset[Watch]] = {}
        self._holders: dict[Watch, set[Key]] = {}

    def set(self, key: Key, watches: Iterable[Watch]) -> None:
        """Record what an object watches from now on."""
        wanted, before = frozenset(watches), self._watches.get(key, frozenset())
        for watch in before - wanted:
            self._holders[watch].discard(key)
            if not self._holders[watch]:
                del self._holders[watch]
        for watch in wanted - before:
            self._holders.setdefault(watch, set()).add(key)
        if wanted:
            self._watches[key] = wanted
        else:
            self._watches.pop(key, None)

    def holders(self, watch: Watch) -> tuple[Key, ...]:
        """Return the objects that watch something, in the order of their addresses."""
        return tuple(sorted(self._holders.get(watch, ())))
