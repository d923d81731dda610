"""Whether the processes of a gang train one network, of which it is enough that the first one saves it."""

from typing import Any

import torch
from torch.distributed.tensor import DTensor

from modelwright.runtime.train.world import World
from modelwright.train._state import State

_DRIFT = 0.01
"""Of the norm of a parameter. GPUs of two kinds round differently, and two networks differ by far more."""


def require(state: State, world: World) -> None:
    """Raise ValueError where a module or what an optimizer updates differs on another process. Every process calls it.

    Buffers may differ, as the running means of a batch norm do under DDP.
    """
    if world.size == 1:
        return
    kinds = torch.nn.Module, torch.optim.Optimizer
    marks = {name: _marks(value) for name, value in state.items() if isinstance(value, kinds)}
    first = world.agree(marks)
    counts = world.sum([float(_differs(marks.get(name, {}), first[name])) for name in first])
    different = [name for name, count in zip(first, counts, strict=True) if count]
    if different:
        raise ValueError(
            f"{', '.join(different)}: not the same on all processes, and a checkpoint takes that of rank 0 alone. "
            "Shard it (fully_shard, or any DTensor), or give it in an object of your own with state_dict and "
            "load_state_dict, of which each process saves its own"
        )


def _marks(value: Any) -> dict[str, list[Any]]:
    if isinstance(value, torch.nn.Module):
        named = dict(value.named_parameters())
    else:
        parameters = (entry for group in value.param_groups for entry in group["params"])
        named = {str(number): entry for number, entry in enumerate(parameters)}
    whole = {name: entry.detach() for name, entry in named.items() if not isinstance(entry, DTensor)}
    return {name: [list(entry.shape), *_sums(entry)] for name, entry in whole.items()}


def _sums(entry: Any) -> list[float]:
    if not entry.is_floating_point() or entry.itemsize == 1:
        return []  # torch has no sums of these
    sums = entry.sum(dtype=torch.float64), torch.linalg.vector_norm(entry, dtype=torch.float64)
    return [float(value) for value in sums]


def _differs(mine: dict[str, list[Any]], first: dict[str, list[Any]]) -> bool:
    if {name: mark[0] for name, mark in mine.items()} != {name: mark[0] for name, mark in first.items()}:
        return True
    pairs = [(mark[1:], first[name][1:]) for name, mark in mine.items()]
    return any(
        abs(value - other) > _DRIFT * max(mark[-1], its[-1])
        for mark, its in pairs
        for value, other in zip(mark, its, strict=True)
    )
