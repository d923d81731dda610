"""What goes wrong with a process' writes, and how old its views are."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from modelwright.kube import errors

T = TypeVar("T")


class CrashError(BaseException):
    """The process dies here. No `except Exception` of the operator's survives that, as it would survive no SIGKILL."""


@dataclass
class Faults:
    """What goes wrong with the operator's writes, and how old its views are."""

    next_writes: deque[str] = field(default_factory=deque)
    """One word for each coming write: ok, conflict, error, timeout (done, but no answer), crash (done, then death)."""
    crash_after: int | None = None
    """The number of the write, from 1 over all lives, after which the process dies."""
    frozen: dict[str, int] = field(default_factory=dict)
    """By kind: the resource version at which its watch has stopped."""
    forgetful: bool = False
    """Views of frozen kinds are of that version, and lack even what this process wrote itself."""


@dataclass
class Pen:
    """Does every write of a process, or what fate makes of it."""

    faults: Faults
    written: list[str]
    """Every write of all lives, in words."""
    dead: bool = False

    def write(self, words: str, do: Callable[[], T], conflict: Exception, lost: Exception) -> T:
        """Write, or raise what fate wants: a conflict, a lost request or answer, or CrashError.

        What finds nothing to change, or something else than it thought, counts as written; what is refused does not.
        """
        if self.dead:
            raise CrashError(words)
        fate = self.faults.next_writes.popleft() if self.faults.next_writes else "ok"
        if fate in ("conflict", "error"):
            raise conflict if fate == "conflict" else lost
        try:
            done = do()
        except (errors.NotFound, errors.Conflict):
            self._note(words, fate, lost)
            raise
        self._note(words, fate, lost)
        return done

    def _note(self, words: str, fate: str, lost: Exception) -> None:
        self.written.append(words)
        if fate == "crash" or len(self.written) == self.faults.crash_after:
            # Another reconcile may be under way: it is dead as well.
            self.dead = True
            raise CrashError(words)
        if fate == "timeout":
            raise lost
