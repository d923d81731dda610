"""Checkpoints on S3: files first, manifest last, so that a checkpoint is whole or is not there.

Where an attempt lives on, unseen, beside the next one, both may write the checkpoint of one step. No condition keeps
them apart, and none is needed: the manifest has the SHA-256 of every file, so that what is a mixture is damaged, and
passed over for the checkpoint before. Who writes files and manifest last has it whole. What it can cost is work: where
the last one dies before its manifest, and `keep` has left no other checkpoint, the next attempt begins anew.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from modelwright.api import layout
from modelwright.api.artifacts import CheckpointManifest, CheckpointPart, File
from modelwright.api.run import Run
from modelwright.api.trainingjob import CheckpointStatus
from modelwright.registry.errors import ObjectNotFound, StoreError
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import describe
from modelwright.runtime.train.retention import Kept, superfluous
from modelwright.runtime.train.trainer import Files

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_FINGERPRINT_FILE = "fingerprint.txt"


@dataclass(frozen=True)
class Checkpoint:
    """A state that training can go on from."""

    step: int
    files: Files


class CheckpointFolder:
    """The files of one checkpoint, wherever it lies. Raises `StoreError`."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self._store.locate(self._prefix)

    def manifest(self) -> CheckpointManifest | None:
        """Return what it is made of; None when it is not complete."""
        return self._store.read_document(self._prefix + _MANIFEST, CheckpointManifest)

    def read(self, name: str, expected: File) -> bytes | None:
        """Return a file; None when it is missing or damaged."""
        data = self._store.read_bytes(self._prefix + name)
        if data is None or describe_bytes(data) != expected:
            logger.warning("checkpoint %s is damaged and passed over: %s", self.uri, name)
            return None
        return data

    def read_all(self) -> Files | None:
        """Return every file; None when it is incomplete or damaged."""
        manifest = self.manifest()
        if manifest is None:
            return None
        files: Files = {}
        for name, expected in manifest.files.items():
            data = self.read(name, expected)
            if data is None:
                return None
            files[name] = data
        return files

    def read_part(self, name: str) -> tuple[CheckpointPart, File] | None:
        """Return what another process wrote of its part, and the document's own description; None before it has."""
        data = self._store.read_bytes(self._prefix + name)
        return None if data is None else (CheckpointPart.model_validate_json(data), describe_bytes(data))

    def fetch(self, name: str, expected: File, path: Path) -> bool:
        """Download a file that may be large; return whether it is there and undamaged."""
        try:
            self._store.download(self._prefix + name, path)
        except ObjectNotFound:
            logger.warning("checkpoint %s is damaged and passed over: %s is missing", self.uri, name)
            return False
        if describe(path) != expected:
            logger.warning("checkpoint %s is damaged and passed over: %s", self.uri, name)
            return False
        return True

    def write(self, name: str, data: bytes | Path) -> File:
        """Write a file and return what the manifest has to say of it."""
        self._store.upload(self._prefix + name, data)
        return describe_bytes(data) if isinstance(data, bytes) else describe(data)

    def finish(self, manifest: CheckpointManifest) -> None:
        """Write the manifest: from now on it exists."""
        self._store.write_json(self._prefix + _MANIFEST, manifest.document())

    def delete(self) -> None:
        """Delete it, the manifest first: a half-deleted checkpoint must not look whole."""
        self._store.delete(self._prefix + _MANIFEST)
        self._store.delete_prefix(self._prefix)


class CheckpointStore:
    """The checkpoints of one job.

    `fingerprint` stands for data and recipe: a state that was learnt from other ones is never resumed. `beside` are
    files that every checkpoint has, for those who start from it: what its state means.
    """

    def __init__(self, store: ObjectStore, run: Run, fingerprint: str, beside: Files | None = None) -> None:
        self._beside = beside or {}
        self._store = store
        self._run = run
        self._fingerprint = fingerprint
        self._keep = run.training.checkpoint.keep
        self._metrics: dict[int, Mapping[str, float]] = {}

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is complete, undamaged and of the same data and recipe."""
        for step in reversed(self.complete_steps()):
            checkpoint = self.read(step)
            if checkpoint is not None:
                return checkpoint
        return None

    def read(self, step: int) -> Checkpoint | None:
        """Return the checkpoint of a step; None when it is incomplete, damaged or of other data."""
        files = self.folder(step).read_all()
        if files is None:
            return None
        if files.pop(_FINGERPRINT_FILE, b"") != self._fingerprint.encode():
            logger.warning("checkpoint %d is of other data or of another recipe and passed over", step)
            return None
        return Checkpoint(step, files)

    def save(self, step: int, files: Files, metrics: Mapping[str, float] | None = None) -> CheckpointStatus:
        """Write a checkpoint, then delete those that are no longer needed."""
        folder = self.folder(step)
        whole = {**files, **self._beside, _FINGERPRINT_FILE: self._fingerprint.encode()}
        described = {name: folder.write(name, data) for name, data in whole.items()}
        return self.publish(step, described, metrics or {})

    def publish(self, step: int, files: dict[str, File], metrics: Mapping[str, float]) -> CheckpointStatus:
        """Make a checkpoint of files that are written, then delete those that are no longer needed."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        manifest = CheckpointManifest(
            step=step, attempt=self._run.attempt, time=now, files=files, metrics=dict(metrics)
        )
        folder = self.folder(step)
        folder.finish(manifest)
        self._metrics[step] = manifest.metrics
        try:
            self._prune(step)
        except StoreError as error:
            # The next one tries again; this one is there, whatever has become of those before.
            logger.warning("old checkpoints could not be deleted: %s", error)
        return CheckpointStatus(step=step, uri=folder.uri, time=now)

    def discard(self) -> None:
        """Delete every checkpoint: none of them can be used, and later steps of theirs must not look newer."""
        for step in self._steps():
            self.folder(step).delete()

    def complete_steps(self) -> list[int]:
        """Return the steps of the checkpoints that have a manifest, ascending."""
        return [step for step in self._steps() if self._store.list(self._prefix(step) + _MANIFEST)]

    def folder(self, step: int) -> CheckpointFolder:
        """Return where the checkpoint of a step lies, or would."""
        return CheckpointFolder(self._store, self._prefix(step))

    def _prune(self, written: int) -> None:
        complete = [Kept(step, self._metrics_of(step)) for step in self.complete_steps()]
        for step in superfluous(self._steps(), complete, self._keep, written):
            self.folder(step).delete()

    def _metrics_of(self, step: int) -> Mapping[str, float]:
        if self._keep.best is None:
            return {}
        if step not in self._metrics:
            manifest = self.folder(step).manifest()
            self._metrics[step] = manifest.metrics if manifest else {}
        return self._metrics[step]

    def _steps(self) -> list[int]:
        names = self._store.folders(layout.checkpoint_prefix(self._run.namespace, self._run.uid))
        return sorted(int(name) for name in names if name.isdigit())

    def _prefix(self, step: int) -> str:
        return layout.checkpoint_prefix(self._run.namespace, self._run.uid, step)


class CheckpointWriter:
    """Runs saves in a thread of its own, one at a time; training goes on meanwhile."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self.last: CheckpointStatus | None = None
        """The last one that is complete, as far as this process knows."""
        self.saved_step: int | None = None
        """The step of the last save that came to its end here."""

    @property
    def busy(self) -> bool:
        """Whether a save is under way; another one then has to wait for its turn."""
        return self._thread is not None and self._thread.is_alive()

    def save(self, step: int, save: Callable[[], CheckpointStatus | None]) -> None:
        """Start to save; a failure of the storage is logged and costs only this checkpoint. Raises what `wait` does."""
        self.wait()
        self._thread = threading.Thread(target=self._save, args=(step, save), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the save that is under way. Raises what went wrong that is no failure of the storage, once."""
        if self._thread is not None:
            self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _save(self, step: int, save: Callable[[], CheckpointStatus | None]) -> None:
        try:
            self.last = save() or self.last
        except (StoreError, OSError) as error:
            logger.warning("checkpoint %d could not be saved, training goes on: %s", step, error)
        except Exception as error:  # noqa: BLE001 (it would fail again, and nobody would know of it)
            self._error = error
        else:
            self.saved_step = step
            logger.info("checkpoint %d saved", step)


def describe_bytes(data: bytes) -> File:
    """Return the size and SHA-256 of what is to be a file."""
    return File(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
