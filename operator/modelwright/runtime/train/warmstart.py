"""A warm start: the weights of another model, for a job that has no checkpoint of its own yet."""

import logging

from modelwright.api import layout
from modelwright.api.artifacts import SIGNATURE_FILE, Signature
from modelwright.api.checkpoint import ModelVersion
from modelwright.api.run import Run
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import read_manifest
from modelwright.runtime.failure import DataError
from modelwright.runtime.train.checkpoints import CheckpointFolder, describe_bytes
from modelwright.runtime.train.trainer import STATE_FILE, WEIGHTS_FILE, Files, Trainer

logger = logging.getLogger(__name__)

_MODEL = "model."


def begin(trainer: Trainer, store: ObjectStore, run: Run, signature: Signature) -> None:
    """Give a trainer the weights that `spec.resume` names, if it names any. Raises `DataError` or `StoreError`."""
    if run.training.resume is None:
        return
    source = run.training.resume.from_
    if source.model is not None:
        files = fetch_version(store, source.model)
        whose = f"Version {source.model.version} of {source.model.name}"
        _require_same_columns(Signature.model_validate_json(files[SIGNATURE_FILE]), signature, whose)
        trainer.start_from({WEIGHTS_FILE: files[WEIGHTS_FILE]})
        logger.info("started from the weights of %s version %d", source.model.name, source.model.version)
    elif source.checkpoint is not None:
        trainer.start_from({WEIGHTS_FILE: _network_of(source.checkpoint, store, signature)})
        logger.info("started from the weights of %s", source.checkpoint)


def fetch_version(store: ObjectStore, model: ModelVersion) -> Files:
    """Return the weights and the signature of a version.

    Raises `DataError` WarmStartImpossible when there is no such version, or it has no weights.
    """
    manifest = read_manifest(store, model.name, model.version)
    if manifest is None:
        raise _impossible(f"There is no version {model.version} of model {model.name} in {store.uri}")
    files: Files = {}
    for name in (WEIGHTS_FILE, SIGNATURE_FILE):
        if name not in manifest.files:
            raise _impossible(
                f"Version {model.version} of {model.name} has no {name}: only a network can be gone on with"
            )
        data = store.read_bytes(layout.version_prefix(model.name, model.version) + name)
        if data is None or describe_bytes(data) != manifest.files[name]:
            raise _impossible(f"{name} of version {model.version} of {model.name} is damaged")
        files[name] = data
    return files


def checkpoint_folder(store: ObjectStore, uri: str) -> CheckpointFolder:
    """Return the checkpoint that a URI names."""
    return CheckpointFolder(store.at(uri.rstrip("/")), "")


def _network_of(uri: str, store: ObjectStore, signature: Signature) -> bytes:
    """Return the weights in a recipe's checkpoint, as a version has them."""
    files = checkpoint_folder(store, uri).read_all()
    if files is None:
        raise _impossible(f"There is no complete checkpoint at {uri}")
    if STATE_FILE not in files or SIGNATURE_FILE not in files:
        raise _impossible(f"The checkpoint at {uri} is not of a network that a recipe trained")
    _require_same_columns(Signature.model_validate_json(files[SIGNATURE_FILE]), signature, f"The checkpoint at {uri}")
    import safetensors.torch  # imports torch, which a job of trees has no use for

    tensors = safetensors.torch.load(files[STATE_FILE])
    weights = {name.removeprefix(_MODEL): value for name, value in tensors.items() if name.startswith(_MODEL)}
    return bytes(safetensors.torch.save(weights))


def _require_same_columns(theirs: Signature, ours: Signature, whose: str) -> None:
    for what, one, other in (
        ("task", theirs.task, ours.task),
        ("target", theirs.target, ours.target),
        ("columns", _columns(theirs), _columns(ours)),
        ("classes", theirs.classes, ours.classes),
    ):
        if one != other:
            raise _impossible(
                f"{whose} has other {what} than this job: its weights would mean something else here. Leave resume "
                "out, or give it what it knows"
            )


def _columns(signature: Signature) -> list[tuple[str, str]]:
    return [(column.name, column.kind) for column in signature.inputs]


def _impossible(message: str) -> DataError:
    return DataError("WarmStartImpossible", message)
