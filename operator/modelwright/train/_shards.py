"""Tensors in pieces: which process writes which, and how they come together again over any number of processes.

`torch.distributed.checkpoint` says which piece of a DTensor is whose, and which pieces make up the ones that are needed
now. The files are ours: `.safetensors`, read without running code.
"""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, create_default_local_save_plan
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.tensor import DTensor

from modelwright.api.artifacts import CheckpointManifest, CheckpointPart, OwnState, TensorPart
from modelwright.runtime.train.checkpoints import CheckpointFolder
from modelwright.runtime.train.world import World
from modelwright.train import _alike, _state
from modelwright.train._state import State, Tensors

logger = logging.getLogger(__name__)

STATE_FILE = "state.json"


@dataclass(frozen=True)
class Capture:
    """One process's part of a state, copied to host memory."""

    tree: bytes
    copies: dict[str, Any]
    parts: dict[str, TensorPart]
    everywhere: bool
    """Whether the other processes have parts too."""
    own: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """What this process has for itself, by name: a tree, and which of the copies belong to it alone."""

    def files(self, rank: int, scratch: Path) -> dict[str, bytes | Path]:
        """Return the files of this part; what is large is written below `scratch`. Raises `OSError`.

        safetensors makes bytes under the lock of the interpreter, 1.6 s for 1 GB, in which no step is made; files it
        writes without. They also spare two copies of the state in memory.
        """
        path = scratch / data_name(rank)
        try:
            safetensors.torch.save_file(self.copies, path)
        except safetensors.SafetensorError as error:
            raise OSError(f"{path}: {error}") from error
        tree: dict[str, bytes | Path] = {STATE_FILE: self.tree} if rank == 0 else {}
        return {path.name: path, **tree}

    def described(self) -> dict[str, OwnState]:
        """Return what this process has for itself, in a form that tells whether another one has the same."""
        return {
            name: OwnState(tree=tree, digests={entry: _digest(self.copies[entry]) for entry in entries})
            for name, (tree, entries) in self.own.items()
        }


@dataclass(frozen=True)
class Saved:
    """A complete checkpoint, opened."""

    folder: CheckpointFolder
    manifest: CheckpointManifest
    tree: bytes
    parts: dict[str, CheckpointPart]
    """By the file with the tensors, in the order of the processes."""


def capture(state: State, world: World, before: Capture | None = None) -> Capture:
    """Copy this process's part of a state: of a tensor that every process has, rank 0 takes all.

    `before` is what was copied for the save before, and nobody reads any more: memory that is there already is written
    several times as fast. Raises ValueError, at the first save, for modules that differ between processes.
    """
    free = before.copies if before else {}
    shared, apart = _state.split(state)
    tree, tensors = _state.collect(shared)
    if before is None:
        _alike.require(shared, world)
    own: dict[str, tuple[str, list[str]]] = {}
    for name, value in apart.items():
        document, found = _state.collect({name: value})
        own[name] = document.decode(), [entry for entry in found if not isinstance(found[entry], DTensor)]
        tensors |= found
    mine = {entry for _, entries in own.values() for entry in entries}
    copies: dict[str, Any] = {}
    parts: dict[str, TensorPart] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            if _is_copy(tensor):
                continue
            for chunk in _chunks(name, tensor):
                parts[name] = TensorPart(tensor=name, offsets=tuple(chunk.offsets), sizes=tuple(chunk.sizes))
                copies[name] = _to_host(tensor.to_local(), free.get(name))
        elif world.leads or name in mine:
            parts[name] = TensorPart(tensor=name, offsets=(0,) * tensor.dim(), sizes=tuple(tensor.shape))
            copies[name] = _to_host(tensor, free.get(name))
    everywhere = bool(own) or any(isinstance(tensor, DTensor) for tensor in tensors.values())
    return Capture(tree, copies, parts, everywhere, own)


def open_saved(folder: CheckpointFolder) -> Saved | None:
    """Return a checkpoint; None when it is incomplete or damaged. Raises `RunError` for one of another program."""
    manifest = folder.manifest()
    if manifest is None:
        return None
    if STATE_FILE not in manifest.files:
        raise _state.mismatch(f"{folder.uri} was not saved by modelwright.train")
    tree = folder.read(STATE_FILE, manifest.files[STATE_FILE])
    if tree is None:
        return None
    parts = {}
    for name, expected in sorted(manifest.files.items()):
        if name.startswith("rank-") and name.endswith(".json"):
            body = folder.read(name, expected)
            if body is None:
                return None
            parts[name.replace(".json", ".safetensors")] = CheckpointPart.model_validate_json(body)
    return Saved(folder, manifest, tree, parts)


class Loading:
    """What one process has to read of a checkpoint, and its reading, in two steps: only the first can fail softly."""

    def __init__(self, saved: Saved, state: State, world: World) -> None:
        """Plan. Raises `RunError` CheckpointMismatch."""
        self._saved = saved
        as_before = world.size == len(saved.parts)
        source = list(saved.parts)[world.rank if as_before else 0]
        lost = set() if as_before else _lost(saved, state, world)
        self._state = {name: value for name, value in state.items() if name not in lost}
        self._tree = _tree(saved, source)
        self._targets = _targets(self._tree, self._state)
        metadata = _metadata(saved, source, self._tree, self._targets)
        self._places: dict[MetadataIndex, tuple[str, str]] = metadata.storage_data
        self._planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._planner.set_up_planner(self._targets, metadata, is_coordinator=True)
        try:
            items = self._planner.create_local_plan().items
        except (RuntimeError, ValueError) as error:
            raise _state.mismatch(str(error)) from error
        self._items = defaultdict(list)
        for item in items:
            self._items[self._places[item.storage_index][0]].append(item)
        self._scratch = TemporaryDirectory(prefix="modelwright-resume-")

    def fetch(self) -> bool:
        """Download what is needed; return whether all of it is there and undamaged. Raises `StoreError`."""
        files = self._saved.manifest.files
        return all(self._saved.folder.fetch(name, files[name], self._path(name)) for name in self._items)

    def apply(self) -> None:
        """Put it where it belongs. Raises `RunError` CheckpointMismatch."""
        for name, items in self._items.items():
            with safetensors.safe_open(self._path(name), framework="pt") as file:
                for item in items:
                    self._copy(file, item)
            self._path(name).unlink()
        _state.apply(self._tree, self._targets, self._state)

    def close(self) -> None:
        """Delete what was downloaded."""
        self._scratch.cleanup()

    def _copy(self, file: Any, item: Any) -> None:
        piece = file.get_slice(self._places[item.storage_index][1])
        ranges = tuple(slice(at, at + size) for at, size in zip(item.storage_offsets, item.lengths, strict=True))
        target = self._planner.resolve_tensor(item).detach()
        target.copy_(piece[ranges] if ranges else file.get_tensor(self._places[item.storage_index][1]))
        self._planner.commit_tensor(item, target)

    def _path(self, name: str) -> Path:
        return Path(self._scratch.name) / name


def data_name(rank: int) -> str:
    """Return the name of the file with the tensors of a process."""
    return f"rank-{rank:05d}.safetensors"


def _lost(saved: Saved, state: State, world: World) -> set[str]:
    """Return what has to begin anew where there were more processes, or fewer.

    That are readers, which count the rows of one of so many processes, and what was not the same on all of them.
    Raises `RunError` CheckpointMismatch where what was learnt would be lost.
    """
    parts = list(saved.parts.values())
    first = parts[0].own
    lost = set()
    for name in sorted(first.keys() & state.keys()):
        reads = isinstance(state[name], Iterable)
        if not reads and all(part.own.get(name) == first[name] for part in parts):
            continue
        told = f"of {len(parts)} processes each had its own {name}, and now there are {world.size}"
        if not reads and _state.has_weights(first[name].tree.encode(), name):
            raise _state.mismatch(told)
        if world.leads:
            logger.warning("%s begins anew: %s", name, told)
        lost.add(name)
    return lost


def _tree(saved: Saved, source: str) -> bytes:
    """Return the tree of what all processes have, and of what one has for itself."""
    tree = json.loads(saved.tree)
    for own in saved.parts[source].own.values():
        tree |= json.loads(own.tree)
    return json.dumps(tree).encode()


def _targets(tree: bytes, state: State) -> Tensors:
    """Return the tensors to read into: those of a sharded state are filled in place, of any other they are new."""
    parameters = _state.updated(tree, state)
    live: Tensors = {}
    modules = [value for value in state.values() if isinstance(value, torch.nn.Module)]
    if any(isinstance(entry, DTensor) for module in modules for entry in module.parameters()):
        optimizers = torch.optim.Optimizer
        _, live = _state.collect({name: each for name, each in state.items() if not isinstance(each, optimizers)})
    targets: Tensors = {}
    for name, (shape, dtype) in _state.describe(tree, state).items():
        found, parameter, kind = live.get(name), parameters.get(name), getattr(torch, dtype)
        if isinstance(found, DTensor):
            targets[name] = found
        elif isinstance(parameter, DTensor) and shape:
            targets[name] = _beside(parameter, shape, kind)
        else:
            targets[name] = torch.empty(shape, dtype=kind)
    return targets


def _beside(parameter: DTensor, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    """Return a tensor as an optimizer keeps it for a sharded parameter: sharded alike, or, of another shape, whole."""
    alike = shape == tuple(parameter.shape)
    return torch.empty_like(parameter, dtype=dtype) if alike else parameter.new_empty(shape, dtype=dtype)


def _metadata(saved: Saved, source: str, tree: bytes, targets: Tensors) -> Metadata:
    shapes = _shapes(tree)
    chunks: dict[str, list[ChunkStorageMetadata]] = defaultdict(list)
    places: dict[MetadataIndex, tuple[str, str]] = {}
    for file, written in saved.parts.items():
        others = set() if file == source else {entry for own in written.own.values() for entry in own.digests}
        for entry, part in written.tensors.items():
            if entry in others:
                continue
            offsets = torch.Size(part.offsets)
            chunks[part.tensor].append(ChunkStorageMetadata(offsets, torch.Size(part.sizes)))
            places[MetadataIndex(part.tensor, offsets)] = (file, entry)
    described = {
        name: TensorStorageMetadata(TensorProperties(targets[name].dtype), torch.Size(shapes[name]), chunks[name])
        for name in targets
    }
    return Metadata(state_dict_metadata=described, storage_data=places)


def _shapes(tree: bytes) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, (shape, _) in _state.describe(tree, json.loads(tree)).items()}


def _chunks(name: str, tensor: DTensor) -> list[ChunkStorageMetadata]:
    plan = create_default_local_save_plan({name: tensor}, is_coordinator=False)
    chunks = [item.tensor_data.chunk for item in plan.items if item.tensor_data is not None]
    # A process beyond the last row of a small tensor has none of it.
    return [chunk for chunk in chunks if 0 not in chunk.sizes]


def _is_copy(tensor: DTensor) -> bool:
    """Tell whether another process has the same piece, and saves it."""
    at = tensor.device_mesh.get_coordinate()
    if at is None:
        return True
    return any(place.is_replicate() and here for place, here in zip(tensor.placements, at, strict=True))


def _digest(tensor: Any) -> str:
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy()).hexdigest()


def _to_host(tensor: Any, into: Any) -> Any:
    if into is None or (into.shape, into.dtype) != (tensor.shape, tensor.dtype):
        # A GPU writes to pinned memory without a copy between.
        into = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return into.copy_(tensor.detach())
