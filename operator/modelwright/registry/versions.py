"""Versions of a model: numbered from 1, written once, never changed.

A job takes a number in two steps, so that neither two jobs share one nor one job takes two:

1. it creates `claim.json` under the first free number (If-None-Match), which no other job can do again;
2. it creates its own `registration.json` with that number (If-None-Match); every later attempt finds it there.

Then it writes the files, and last the manifest (If-None-Match). A crash between 1 and 2 leaves a number that nobody
uses: a gap, no harm. At most one attempt of a job is alive at a time: that is the operator's promise.
"""

import hashlib
import re
from pathlib import Path

from modelwright.api import layout
from modelwright.api.artifacts import Claim, File, Manifest, Registration
from modelwright.api.trainingjob import RegisteredVersion
from modelwright.registry.errors import AlreadyExists, CorruptVersion, IncompleteVersion, StoreError
from modelwright.registry.store import ObjectStore

_CHUNK = 1 << 20


def list_versions(store: ObjectStore, model: str) -> tuple[int, ...]:
    """Return the numbers that are taken, ascending; some of them may have no manifest (yet)."""
    names = store.folders(layout.version_prefix(model))
    return tuple(sorted(int(name) for name in names if re.fullmatch(r"[1-9][0-9]*", name)))


def read_manifest(store: ObjectStore, model: str, version: int) -> Manifest | None:
    """Return the manifest of a version; None when there is no such version or it is not complete."""
    return store.read_document(layout.manifest_key(model, version), Manifest)


def find_registered(store: ObjectStore, namespace: str, job_uid: str) -> RegisteredVersion | None:
    """Return the complete version that a job has written; None when it has not, or not to the end."""
    registration = _read_registration(store, namespace, job_uid)
    if registration is None or read_manifest(store, registration.model, registration.version) is None:
        return None
    return _registered(store, registration)


def take_number(store: ObjectStore, model: str, namespace: str, job_uid: str) -> int:
    """Return the one number that this job writes under, taking it if it has none."""
    registration = _read_registration(store, namespace, job_uid)
    if registration is not None:
        return registration.version
    mine = Registration(model=model, version=_claim(store, model, job_uid))
    try:
        store.write_json(layout.registration_key(namespace, job_uid), mine.document(), if_absent=True)
    except AlreadyExists:
        # Either our own write, whose answer was lost, or an earlier attempt that had not quite died.
        return _require_registration(store, namespace, job_uid).version
    return mine.version


def register(
    store: ObjectStore, *, model: str, namespace: str, job_uid: str, directory: Path, created: str
) -> RegisteredVersion:
    """Write the files of a directory as the job's version of a model, manifest last, and return it.

    Repeating it is safe: a version whose manifest is written is returned as it is.
    """
    version = take_number(store, model, namespace, job_uid)
    prefix = layout.version_prefix(model, version)
    if read_manifest(store, model, version) is None:
        paths = sorted(path for path in directory.iterdir() if path.is_file())
        for path in paths:
            store.write(prefix + path.name, path)
        files = {path.name: describe(path) for path in paths}
        manifest = Manifest(model=model, version=version, created=created, job_uid=job_uid, files=files)
        _finish(store, manifest)
    return _registered(store, Registration(model=model, version=version))


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


def _read_registration(store: ObjectStore, namespace: str, job_uid: str) -> Registration | None:
    return store.read_document(layout.registration_key(namespace, job_uid), Registration)


def _require_registration(store: ObjectStore, namespace: str, job_uid: str) -> Registration:
    registration = _read_registration(store, namespace, job_uid)
    if registration is None:
        raise StoreError(f"{store.locate(layout.registration_key(namespace, job_uid))} was deleted while in use")
    return registration


def _registered(store: ObjectStore, registration: Registration) -> RegisteredVersion:
    uri = store.locate(layout.version_prefix(registration.model, registration.version))
    return RegisteredVersion(name=registration.model, version=registration.version, uri=uri)


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
