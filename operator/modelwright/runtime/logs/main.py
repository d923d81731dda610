"""From the environment of a worker's container to its exit code."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelwright.api import layout
from modelwright.runtime.logs import STACKS_VARIABLE, child
from modelwright.runtime.logs.keeper import Keeper, Put
from modelwright.runtime.logs.tail import Tail

_RUN_VARIABLE = "MODELWRIGHT_RUN"
_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
_USAGE = "usage: python -m modelwright.runtime.logs -- program argument ...\n"
_USAGE_CODE = 2


def main(arguments: Sequence[str]) -> int:
    """Run the program that the arguments name, with the end of its output kept on S3; return its exit code."""
    argv = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not argv:
        os.write(2, _USAGE.encode())
        return _USAGE_CODE
    try:
        run: dict[str, Any] = json.loads(os.environ[_RUN_VARIABLE])
        place, storage = (run["namespace"], run["uid"], int(run["attempt"])), run["storage"]
        # A recipe leaves a result.
        speaks = os.environ.get(_INDEX_VARIABLE) == "0" and "recipe" not in run["training"]
    except (KeyError, ValueError, TypeError):
        # Not started by the operator: the program runs all the same.
        return child.run(argv, os.environ, lambda data: None, lambda: None)
    try:
        stacks = Path(tempfile.mkdtemp(prefix="modelwright-stacks-"))
    except OSError:
        # A disk that is full or may not be written to has no room for stacks; the output needs none.
        return _kept(argv, place, None, _put_to(storage), speaks=speaks)
    try:
        return _kept(argv, place, stacks, _put_to(storage), speaks=speaks)
    finally:
        shutil.rmtree(stacks, ignore_errors=True)


def _kept(argv: Sequence[str], place: tuple[str, str, int], stacks: Path | None, put: Put, *, speaks: bool) -> int:
    """Run the program to its end; where this process `speaks` for the gang, it writes down that it ended well."""
    tail = Tail()
    keeper = Keeper(tail, layout.log_key(*place, os.environ.get(_INDEX_VARIABLE, "0")), put)
    keeper.start()
    told = {} if stacks is None else {STACKS_VARIABLE: str(stacks)}
    asked: list[bool] = []

    def on_stop() -> None:
        asked.append(True)
        keeper.hurry()

    code = child.run(argv, {**os.environ, **told}, tail.add, on_stop)
    files = [] if stacks is None else sorted(stacks.glob("rank-*.txt"))
    left = {file.stem.removeprefix("rank-"): file.read_bytes() for file in files}
    held = {rank: text for rank, text in left.items() if text}
    if held:
        # Only here: it imports what takes long.
        from modelwright.runtime.logs.held import tell

        tell(held, tail.add)
    beside = {layout.stack_key(*place, rank): text for rank, text in held.items()}
    if speaks and code == os.EX_OK and not asked:
        # Who is asked to leave may say that all is well, and is not done.
        beside[layout.completed_key(*place)] = b"{}"
    keeper.finish(beside)
    return code


def _put_to(storage: Mapping[str, Any]) -> Put:
    """Return what writes to a storage place. It is opened, and what speaks S3 imported, at the first write."""
    opened: list[Any] = []

    def put(key: str, data: bytes) -> None:
        from modelwright.api.run import ResolvedStorage
        from modelwright.registry.errors import StoreError
        from modelwright.registry.store import open_store

        try:
            if not opened:
                opened.append(open_store(ResolvedStorage.model_validate(storage), read_seconds=5, attempts=2))
            opened[0].write(key, data)
        except StoreError as error:
            raise OSError(error.message) from error

    return put
