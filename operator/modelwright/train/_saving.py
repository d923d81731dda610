"""Saving a state from every process that has a part of it, without making training wait for any of them."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from modelwright.api.artifacts import CheckpointPart, File
from modelwright.api.trainingjob import CheckpointStatus
from modelwright.registry.errors import StoreError
from modelwright.runtime.train.checkpoints import CheckpointFolder, CheckpointStore, CheckpointWriter
from modelwright.runtime.train.world import World

if TYPE_CHECKING:
    from modelwright.train._shards import Capture

logger = logging.getLogger(__name__)

_PEERS_SECONDS = 300.0
_POLL_SECONDS = 0.2


def part_name(rank: int) -> str:
    """Return the name of the document that says what a process wrote."""
    return f"rank-{rank:05d}.json"


class Saver:
    """Each process writes its part and a document about it; when all have, rank 0 writes the manifest.

    They meet on the store and not in a collective: that could not be called beside those of the training.
    `identity` is the same on every process and no other's: what an attempt that was cut off left behind is not ours.
    """

    def __init__(
        self,
        store: CheckpointStore,
        world: World,
        identity: str,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._store = store
        self._world = world
        self._identity = identity
        self._pause = pause
        self._writer = CheckpointWriter()
        self._abandoned = threading.Event()
        self._saves = 0
        """So far; the same on every process, and told with each: one step may be saved twice."""

    @property
    def busy(self) -> bool:
        """Whether this process is writing."""
        return self._writer.busy

    @property
    def last(self) -> CheckpointStatus | None:
        """The last complete one; only rank 0 knows."""
        return self._writer.last

    def save(self, step: int, part: "Capture", metrics: Mapping[str, float]) -> None:
        """Start to write what was copied; wait only for a save that is still under way."""
        self._saves += 1
        identity = f"{self._identity}/{self._saves}"
        if part.everywhere or self._world.leads:
            self._writer.save(step, lambda: self._save(step, part, metrics, identity))

    def finish(self, step: int) -> bool:
        """Wait for the save of a step; return whether it came to its end here."""
        self._writer.wait()
        return self._writer.saved_step == step

    def wait(self) -> None:
        """Wait for the save that is under way."""
        self._writer.wait()

    def abandon(self) -> None:
        """Wait for no other process any more."""
        self._abandoned.set()

    def _save(self, step: int, part: "Capture", metrics: Mapping[str, float], identity: str) -> CheckpointStatus | None:
        folder, rank = self._store.folder(step), self._world.rank
        with TemporaryDirectory(prefix="modelwright-save-") as scratch:
            whole = part.files(rank, Path(scratch))
            files = {name: folder.write(name, data) for name, data in whole.items()}
        document = CheckpointPart(save=identity, files=files, tensors=part.parts, own=part.described())
        name = part_name(rank)
        files[name] = folder.write(name, document.model_dump_json(by_alias=True).encode())
        if not self._world.leads:
            return None
        for peer in range(1, self._world.size) if part.everywhere else ():
            files |= self._part_of(folder, peer, identity)
        return self._store.publish(step, files, metrics)

    def _part_of(self, folder: CheckpointFolder, peer: int, identity: str) -> dict[str, File]:
        name, waited = part_name(peer), 0.0
        while not self._abandoned.is_set() and waited < _PEERS_SECONDS:
            found = folder.read_part(name)
            if found is not None and found[0].save == identity:
                return {**found[0].files, name: found[1]}
            self._pause(_POLL_SECONDS)
            waited += _POLL_SECONDS
        raise StoreError(f"process {peer} has not written its part")
