"""Checkpoints on S3: files first, manifest last, so that a checkpoint is whole or is not there."""

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from modelwright.api import layout
from modelwright.api.artifacts import CheckpointManifest, File
from modelwright.api.run import Run
from modelwright.api.trainingjob import CheckpointStatus
from modelwright.registry.errors import StoreError
from modelwright.registry.store import ObjectStore
from modelwright.runtime.train.trainer import Files

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_FINGERPRINT_FILE = "fingerprint.txt"


@dataclass(frozen=True)
class Checkpoint:
    """A state that training can go on from."""

    step: int
    files: Files


class CheckpointStore:
    """The checkpoints of one job.

    `fingerprint` stands for data and recipe: a state that was learnt from other ones is never resumed.
    """

    def __init__(self, store: ObjectStore, run: Run, fingerprint: str) -> None:
        self._store = store
        self._run = run
        self._fingerprint = fingerprint
        self._keep = run.training.checkpoint.keep

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is complete, undamaged and of the same data and recipe."""
        for step in reversed(self._complete_steps()):
            checkpoint = self.read(step)
            if checkpoint is not None:
                return checkpoint
        return None

    def read(self, step: int) -> Checkpoint | None:
        """Return the checkpoint of a step; None when it is incomplete, damaged or of other data."""
        prefix = self._prefix(step)
        manifest = self._store.read_document(prefix + _MANIFEST, CheckpointManifest)
        if manifest is None:
            return None
        files: Files = {}
        for name, expected in manifest.files.items():
            data = self._store.read_bytes(prefix + name)
            if data is None or _describe(data) != expected:
                logger.warning("checkpoint %d is damaged and passed over: %s", step, name)
                return None
            files[name] = data
        if files.pop(_FINGERPRINT_FILE, b"") != self._fingerprint.encode():
            logger.warning("checkpoint %d is of other data or of another recipe and passed over", step)
            return None
        return Checkpoint(step, files)

    def save(self, step: int, files: Files) -> CheckpointStatus:
        """Write a checkpoint, then delete those that are no longer needed."""
        prefix = self._prefix(step)
        whole = files | {_FINGERPRINT_FILE: self._fingerprint.encode()}
        for name, data in whole.items():
            self._store.write(prefix + name, data)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        described = {name: _describe(data) for name, data in whole.items()}
        manifest = CheckpointManifest(step=step, attempt=self._run.attempt, time=now, files=described)
        self._store.write_json(prefix + _MANIFEST, manifest.document())
        self._prune(step)
        return CheckpointStatus(step=step, uri=self._store.locate(prefix), time=now)

    def discard(self) -> None:
        """Delete every checkpoint: none of them can be used, and later steps of theirs must not look newer."""
        for step in self._steps():
            self._delete(step)

    def _prune(self, written: int) -> None:
        kept = [step for step in self._complete_steps() if step <= written][-self._keep :]
        for step in self._steps():
            # What lies beyond was written by an attempt that was cut off; this one will come by there again.
            if step not in kept and step < written:
                self._delete(step)

    def _delete(self, step: int) -> None:
        # The manifest first: a half-deleted checkpoint must not look whole.
        self._store.delete(self._prefix(step) + _MANIFEST)
        self._store.delete_prefix(self._prefix(step))

    def _steps(self) -> list[int]:
        names = self._store.folders(layout.checkpoint_prefix(self._run.namespace, self._run.uid))
        return sorted(int(name) for name in names if name.isdigit())

    def _complete_steps(self) -> list[int]:
        return [step for step in self._steps() if self._store.list(self._prefix(step) + _MANIFEST)]

    def _prefix(self, step: int) -> str:
        return layout.checkpoint_prefix(self._run.namespace, self._run.uid, step)


class CheckpointWriter:
    """Saves checkpoints from a thread of its own, one at a time; training goes on meanwhile."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._thread: threading.Thread | None = None
        self.last: CheckpointStatus | None = None
        """The last one that is complete."""

    @property
    def busy(self) -> bool:
        """Whether a save is under way; another one then has to wait for its turn."""
        return self._thread is not None and self._thread.is_alive()

    def save(self, step: int, files: Callable[[], Files]) -> None:
        """Start to save; a failure is logged and costs only this checkpoint."""
        self.wait()
        self._thread = threading.Thread(target=self._save, args=(step, files), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the save that is under way."""
        if self._thread is not None:
            self._thread.join()

    def _save(self, step: int, files: Callable[[], Files]) -> None:
        try:
            self.last = self._store.save(step, files())
        except StoreError as error:
            logger.warning("checkpoint %d could not be saved, training goes on: %s", step, error.message)
        else:
            logger.info("checkpoint %d saved", step)


def _describe(data: bytes) -> File:
    return File(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
