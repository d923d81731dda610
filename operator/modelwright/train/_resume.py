"""Where a loop goes on: its newest checkpoint, or else the weights of another model."""

import logging
from typing import Any

import safetensors.torch
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from modelwright.api.run import Run
from modelwright.registry.store import ObjectStore
from modelwright.runtime.failure import DataError
from modelwright.runtime.train import warmstart
from modelwright.runtime.train.checkpoints import CheckpointFolder, CheckpointStore
from modelwright.runtime.train.trainer import WEIGHTS_FILE
from modelwright.runtime.train.world import World
from modelwright.train._shards import Loading, open_saved
from modelwright.train._state import State

logger = logging.getLogger(__name__)


def newest(checkpoints: CheckpointStore, world: World, state: State) -> int | None:
    """Load the newest checkpoint that is whole on every process; return its step, or None where there is none."""
    steps = world.agree(checkpoints.complete_steps() if world.leads else None)
    for step in reversed(steps):
        if _load(checkpoints.folder(step), world, state):
            logger.info("resumed from the checkpoint of step %d", step)
            return int(step)
    if steps and world.leads:
        # None of them can be used, and later steps of theirs must not look newer than what comes now.
        checkpoints.discard()
    return None


def warm(store: ObjectStore, run: Run, state: State) -> None:
    """Load the weights that `spec.resume` names, if it names any.

    Raises `DataError` WarmStartImpossible, `RunError` CheckpointMismatch.
    """
    if run.training.resume is None:
        return
    source = run.training.resume.from_
    modules = {name: value for name, value in state.items() if isinstance(value, torch.nn.Module)}
    if source.model is not None:
        files = warmstart.fetch_version(store, source.model)
        _take_over(_only(modules), safetensors.torch.load(files[WEIGHTS_FILE]))
        logger.info("started from the weights of %s version %d", source.model.name, source.model.version)
    elif source.checkpoint is not None:
        folder = warmstart.checkpoint_folder(store, source.checkpoint)
        # Each process for itself: one that cannot read it ends, and the others with it.
        if not _load(folder, World(), modules):
            raise DataError("WarmStartImpossible", f"There is no complete checkpoint at {source.checkpoint}")
        logger.info("started from the weights of %s", source.checkpoint)


def _load(folder: CheckpointFolder, world: World, state: State) -> bool:
    saved = open_saved(folder)
    loading = None if saved is None else Loading(saved, state, world)
    try:
        here = loading is not None and loading.fetch()
        # Nothing is overwritten before every process has all that it needs.
        (missing,) = world.sum([0.0 if here else 1.0])
        if missing or loading is None:
            return False
        loading.apply()
        return True
    finally:
        if loading is not None:
            loading.close()


def _only(modules: dict[str, Any]) -> Any:
    if len(modules) == 1:
        return next(iter(modules.values()))
    if "model" in modules:
        return modules["model"]
    raise DataError("WarmStartImpossible", "A version has the weights of one network: give yours as model=")


def _take_over(module: Any, weights: dict[str, Any]) -> None:
    try:
        set_model_state_dict(module, weights, options=StateDictOptions(full_state_dict=True))
    except (RuntimeError, KeyError, ValueError) as error:
        raise DataError("WarmStartImpossible", f"The weights do not fit the network: {str(error)[:500]}") from error
