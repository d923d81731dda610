"""Versions of a model: numbered from 1, written once, never changed.

A job takes a number in two steps, so that neither two jobs share one nor one job takes two:

1. it creates `claim.json` under the first free number (If-None-Match), which no other job can do again;
2. it creates its own `registration.json` with that number (If-None-Match); every later attempt finds it there.

Then it writes the files, and last the manifest (If-None-Match). A crash between 1 and 2 leaves a number that nobody
uses: a gap, no harm.

The operator starts an attempt when the one before has ended, as far as anybody can know. Of a pod on a node that is cut
off from the API server, but not from S3, nobody can, and it may register while the next attempt does. So an attempt is
told which earlier ones may be alive (`Run.unconfirmed`), and shares no number with these: it takes another one, which
leaves a gap, and writes that down in `registration.json` (If-Match). What the earlier one does then depends on how far
it was. Without a number it finds the later registration, and writes nothing. With one it completes that version, which
nobody else writes to: whole, and wanted by nobody. Its `result.json` may come before or after that of the later
attempt; either is complete, and speaks of a version that is.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from modelwright.api import layout
from modelwright.api.artifacts import Claim, File, Manifest, Registration
from modelwright.api.trainingjob import RegisteredVersion
from modelwright.registry.errors import (
    AlreadyExists,
    CorruptVersion,
    IncompleteVersion,
    PreconditionFailed,
    StoreError,
    Superseded,
)
from modelwright.registry.store import ObjectStore
from modelwright.registry.weight import HEAVIEST

_CHUNK = 1 << 20
_TRIES = 20
"""Others who write the same document are other attempts of one job: there are not so many."""


@dataclass(frozen=True, order=True)
class Writer:
    """Which attempt of a job registers. A later one is greater."""

    attempt: int = 0
    unconfirmed: int = 0
    """The newest attempt that may still be alive, as in `Run`."""

    def may_share(self, taken: Registration) -> bool:
        """Tell whether nobody else can be writing under a number that an attempt of this job has taken."""
        return self == _writer(taken) or taken.attempt > self.unconfirmed or self.unconfirmed == 0


_ANYBODY = Writer()


def list_versions(store: ObjectStore, model: str) -> tuple[int, ...]:
    """Return the numbers that are taken, ascending; some of them may have no manifest (yet)."""
    names = store.folders(layout.version_prefix(model))
    return tuple(sorted(int(name) for name in names if re.fullmatch(r"[1-9][0-9]*", name)))


def read_manifest(store: ObjectStore, model: str, version: int) -> Manifest | None:
    """Return the manifest of a version; None when there is no such version or it is not complete."""
    return store.read_document(layout.manifest_key(model, version), Manifest, HEAVIEST)


def find_registered(store: ObjectStore, namespace: str, job_uid: str) -> RegisteredVersion | None:
    """Return the complete version that a job has written; None when it has not, or not to the end.

    It is that of the attempt that took a number last.
    """
    taken = store.read_document(layout.registration_key(namespace, job_uid), Registration)
    if taken is None or read_manifest(store, taken.model, taken.version) is None:
        return None
    return _registered(store, taken.model, taken.version)


def take_number(store: ObjectStore, model: str, namespace: str, job_uid: str, writer: Writer = _ANYBODY) -> int:
    """Return the number that this attempt of a job writes under, taking one if there is none for it.

    Raises `Superseded` where a later attempt registers.
    """
    key = layout.registration_key(namespace, job_uid)
    for _ in range(_TRIES):
        found = store.find(key, Registration)
        taken, etag = found or (None, None)
        if taken is not None and _writer(taken) > writer:
            raise _superseded(taken, writer)
        if taken is not None and writer.may_share(taken):
            return taken.version
        version = _claim(store, model, job_uid)
        mine = Registration(model=model, version=version, attempt=writer.attempt, unconfirmed=writer.unconfirmed)
        try:
            store.write_json(key, mine.document(), if_absent=found is None, if_match=etag)
        except (AlreadyExists, PreconditionFailed):
            # Either our own write, whose answer was lost, or another attempt that had not quite died.
            continue
        return version
    raise StoreError(f"{store.locate(key)} is changed by somebody else all the time")


def register(
    store: ObjectStore,
    *,
    model: str,
    namespace: str,
    job_uid: str,
    directory: Path,
    created: str,
    writer: Writer = _ANYBODY,
) -> RegisteredVersion:
    """Write the files of a directory as the job's version of a model, manifest last, and return it.

    Repeating it is safe: a version whose manifest is written is returned as it is. Raises `Superseded`, with nothing
    written, where a later attempt registers.
    """
    version = take_number(store, model, namespace, job_uid, writer)
    prefix = layout.version_prefix(model, version)
    if read_manifest(store, model, version) is None:
        paths = sorted(path for path in directory.iterdir() if path.is_file())
        for path in paths:
            store.write(prefix + path.name, path)
        files = {path.name: describe(path) for path in paths}
        manifest = Manifest(model=model, version=version, created=created, job_uid=job_uid, files=files)
        _finish(store, manifest)
    return _registered(store, model, version)


def fetch_version(store: ObjectStore, model: str, version: int, directory: Path) -> Manifest:
    """Download every file of a version into a directory and check its size and SHA-256.

    Raises `IncompleteVersion`, or `CorruptVersion` when a file is missing or differs.
    """
    manifest = read_manifest(store, model, version)
    if manifest is None:
        raise IncompleteVersion(f"There is no version {version} of model {model} in {store.uri}", retryable=False)
    directory.mkdir(parents=True, exist_ok=True)
    for name, expected in manifest.files.items():
        _fetch_file(store, layout.version_prefix(model, version), name, expected, directory)
    return manifest


def describe(path: Path) -> File:
    """Return the size and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return File(sha256=digest.hexdigest(), size=path.stat().st_size)


def _claim(store: ObjectStore, model: str, job_uid: str) -> int:
    version = max(list_versions(store, model), default=0) + 1
    while True:
        key = layout.claim_key(model, version)
        try:
            store.write_json(key, Claim(job_uid=job_uid).document(), if_absent=True)
        except AlreadyExists:
            claim = store.read_document(key, Claim)
            if claim is None or claim.job_uid != job_uid:
                version += 1
                continue
        return version


def _writer(taken: Registration) -> Writer:
    return Writer(taken.attempt, taken.unconfirmed)


def _superseded(taken: Registration, writer: Writer) -> Superseded:
    return Superseded(
        f"attempt {taken.attempt} of this job registers version {taken.version} of {taken.model}, and attempt "
        f"{writer.attempt} was given up: it writes nothing"
    )


def _registered(store: ObjectStore, model: str, version: int) -> RegisteredVersion:
    return RegisteredVersion(name=model, version=version, uri=store.locate(layout.version_prefix(model, version)))


def _finish(store: ObjectStore, manifest: Manifest) -> None:
    try:
        store.write_json(layout.manifest_key(manifest.model, manifest.version), manifest.document(), if_absent=True)
    except AlreadyExists:
        written = read_manifest(store, manifest.model, manifest.version)
        if written is None or written.files != manifest.files:
            raise


def _fetch_file(store: ObjectStore, prefix: str, name: str, expected: File, directory: Path) -> None:
    if Path(name).name != name:
        raise CorruptVersion(f"{store.locate(prefix)} names a file outside its folder", retryable=False)
    path = directory / name
    store.download(prefix + name, path)
    if describe(path) != expected:
        path.unlink()
        raise CorruptVersion(
            f"{store.locate(prefix + name)} is not what the manifest says: it was changed after it was written",
            retryable=False,
        )
