"""A bucket in memory: conditional writes, outages, and answers that get lost."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelwright.api.layout import alias_key, manifest_key, version_prefix
from modelwright.plan.actions import MoveAlias
from modelwright.plan.times import stamp


class StoreError(Exception):
    """S3 did not answer, or its answer was lost."""


class AliasMovedError(Exception):
    """The alias is not where the mover saw it."""


@dataclass
class Bucket:
    """JSON documents by key."""

    clock: Callable[[], datetime]
    documents: dict[str, str] = field(default_factory=dict)
    down: bool = False
    errors_ahead: int = 0
    """So many of the next calls fail."""
    answers_lost_ahead: int = 0
    """So many of the next writes are done, but their answer is lost."""
    moves: list[tuple[str, int]] = field(default_factory=list)
    """Every (alias key, version) that an alias was given."""

    def read(self, key: str) -> dict[str, Any] | None:
        """Return a document, or None. Raises StoreError."""
        self._fail()
        text = self.documents.get(key)
        return None if text is None else json.loads(text)

    def read_all(self, prefix: str, after: str) -> tuple[dict[str, Any], ...]:
        """Return the documents below a prefix whose keys sort after one. Raises StoreError."""
        self._fail()
        found = sorted(key for key in self.documents if key.startswith(prefix) and key > after)
        return tuple(json.loads(self.documents[key]) for key in found)

    def write(self, key: str, document: Any, *, only_new: bool = False) -> bool:
        """Write a document; with `only_new`, return False where there is one."""
        if only_new and key in self.documents:
            return False
        self.documents[key] = json.dumps(document, sort_keys=True)
        return True

    def move_alias(self, action: MoveAlias) -> None:
        """Move an alias as the registry does: to a complete version, from where it was seen. Raises AliasMovedError."""
        self._fail()
        key = alias_key(action.model, action.alias)
        now = self.documents.get(key)
        holder = None if now is None else json.loads(now)["version"]
        if holder == action.version:
            return
        if holder != action.expected:
            raise AliasMovedError(f"{action.alias} points at {holder}")
        self.set_alias(action.model, action.alias, action.version, action.moved_by, action.reason)
        if self.answers_lost_ahead:
            self.answers_lost_ahead -= 1
            raise StoreError("the answer was lost")

    def set_alias(self, model: str, alias: str, version: int, moved_by: str, reason: str) -> None:
        """Point an alias at a version, whoever holds it."""
        at = stamp(self.clock())
        key = alias_key(model, alias)
        self.write(key, {"version": version, "movedBy": moved_by, "reason": reason, "at": at})
        self.moves.append((key, version))

    def register(self, model: str, content: dict[str, Any]) -> int:
        """Take the next version number and complete it; return the number."""
        version = 1
        while not self.write(f"{version_prefix(model, version)}model.json", content, only_new=True):
            version += 1
        self.write(manifest_key(model, version), {"model": model, "version": version})
        return version

    def _fail(self) -> None:
        if self.errors_ahead:
            self.errors_ahead -= 1
            raise StoreError("S3 answered 503")
        if self.down:
            raise StoreError("S3 does not answer")
