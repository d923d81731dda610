"""Tensors in pieces: which process writes which, and how they come together again over any number of processes.

`torch.distributed.checkpoint` says which piece of a DTensor is whose, and which pieces make up the ones that are needed
now. The files are ours: `.safetensors`, read without running code.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
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

from modelwright.api.artifacts import CheckpointManifest, CheckpointPart, TensorPart
from modelwright.runtime.train.checkpoints import CheckpointFolder
from modelwright.train import _state
from modelwright.train._state import State, Tensors

STATE_FILE = "state.json"


@dataclass(frozen=True)
class Capture:
    """One process's part of a state, copied to host memory."""

    tree: bytes
    copies: dict[str, Any]
    parts: dict[str, TensorPart]
    sharded: bool
    """Whether the other processes have parts too."""

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


@dataclass(frozen=True)
class Saved:
    """A complete checkpoint, opened."""

    folder: CheckpointFolder
    manifest: CheckpointManifest
    tree: bytes
    parts: dict[str, dict[str, TensorPart]]
    """By the file, and the entry in it."""


def capture(state: State, *, leads: bool, before: Mapping[str, Any] | None = None) -> Capture:
    """Copy this process's part of a state: of a tensor that every process has, rank 0 takes all.

    `before` are the copies of the save before, which nobody reads any more: memory that is there already is written
    several times as fast.
    """
    free = before or {}
    tree, tensors = _state.collect(state)
    copies: dict[str, Any] = {}
    parts: dict[str, TensorPart] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            if _is_copy(tensor):
                continue
            for chunk in _chunks(name, tensor):
                parts[name] = TensorPart(tensor=name, offsets=tuple(chunk.offsets), sizes=tuple(chunk.sizes))
                copies[name] = _to_host(tensor.to_local(), free.get(name))
        elif leads:
            parts[name] = TensorPart(tensor=name, offsets=(0,) * tensor.dim(), sizes=tuple(tensor.shape))
            copies[name] = _to_host(tensor, free.get(name))
    return Capture(tree, copies, parts, any(isinstance(tensor, DTensor) for tensor in tensors.values()))


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
    for name, expected in manifest.files.items():
        if name.startswith("rank-") and name.endswith(".json"):
            body = folder.read(name, expected)
            if body is None:
                return None
            parts[name.replace(".json", ".safetensors")] = CheckpointPart.model_validate_json(body).tensors
    return Saved(folder, manifest, tree, parts)


class Loading:
    """What one process has to read of a checkpoint, and its reading, in two steps: only the first can fail softly."""

    def __init__(self, saved: Saved, state: State) -> None:
        """Plan. Raises `RunError` CheckpointMismatch."""
        self._saved, self._state = saved, state
        self._targets = _targets(saved, state)
        metadata = _metadata(saved, self._targets)
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
        _state.apply(self._saved.tree, self._targets, self._state)

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


def _targets(saved: Saved, state: State) -> Tensors:
    """Return the tensors to read into: those of a sharded state are filled in place, of any other they are new."""
    live: Tensors = {}
    modules = [value for value in state.values() if isinstance(value, torch.nn.Module)]
    if any(isinstance(entry, DTensor) for module in modules for entry in module.parameters()):
        _state.begin_optimizers(state)
        _, live = _state.collect(state)
    targets: Tensors = {}
    for name, (shape, dtype) in _state.describe(saved.tree, state).items():
        found = live.get(name)
        targets[name] = found if isinstance(found, DTensor) else torch.empty(shape, dtype=getattr(torch, dtype))
    return targets


def _metadata(saved: Saved, targets: Tensors) -> Metadata:
    shapes = _shapes(saved.tree)
    chunks: dict[str, list[ChunkStorageMetadata]] = defaultdict(list)
    places: dict[MetadataIndex, tuple[str, str]] = {}
    for file, entries in saved.parts.items():
        for entry, part in entries.items():
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


def _to_host(tensor: Any, into: Any) -> Any:
    if into is None or (into.shape, into.dtype) != (tensor.shape, tensor.dtype):
        # A GPU writes to pinned memory without a copy between.
        into = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return into.copy_(tensor.detach())
