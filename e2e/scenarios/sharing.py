"""What the processes of one run of the scenarios have in common: a folder with what was made once, and locks."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

_T = TypeVar("_T")


class Sharing:
    """The folder of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def once(self, name: str, make: Callable[[], _T]) -> _T:
        """Return what `make` returned, JSON, in whichever process came first; the others wait for it.

        Where `make` raises, the next one tries.
        """
        made = self._made(name)
        with self._locked(name, fcntl.LOCK_EX):
            if not made.exists():
                made.write_text(json.dumps(make()))
            return cast("_T", json.loads(made.read_text()))

    def is_made(self, name: str) -> bool:
        """Tell whether `once` has returned for this name."""
        return self._made(name).exists()

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Hold a turn: among others, or alone."""
        with self._locked("turn", fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
            yield

    def _made(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    @contextmanager
    def _locked(self, name: str, kind: int) -> Iterator[None]:
        with (self._folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, kind)
            yield
