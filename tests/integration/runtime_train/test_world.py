"""Two real processes that train together."""

import os
import sys
from typing import Any

import numpy as np
import pytest

from modelwright.runtime.train.recipes import begin
from modelwright.runtime.train.world import World, joined
from tests.integration.runtime_train import members
from tests.unit.runtime_train.tables import cancer, recipe_for, split_of

_STEPS = 20
# Processes that import torch, on a machine where others do so too.
pytestmark = pytest.mark.timeout(300)


def test_ranks_agree_on_what_rank_0_says() -> None:
    told, sums, of_rank_0, summed = [0, "né"], [3.0, 1.0], [[0.0], [[1.0, 2.0]]], [[1.0], [[3.0, 5.0]], [1.0, 4.0]]
    assert members.answers(_agree, 2) == [(told, sums, of_rank_0, summed)] * 2


def _agree() -> tuple[object, ...]:
    import torch

    rank = int(os.environ["RANK"])
    with joined() as world:
        spread, summed = ([torch.tensor([0.0 + rank]), torch.tensor([[1.0 + rank, 2.0 + rank]])] for _ in range(2))
        world.broadcast(spread)
        values = world.all_reduce(summed, [0.0 + rank, 2.0])
        lists = [[tensor.tolist() for tensor in tensors] for tensors in (spread, summed)]
        return world.agree([rank, "né"]), world.sum([rank + 1.0, 0.0 + rank]), lists[0], [*lists[1], values]


def test_two_processes_train_the_network_that_one_would_without_importing_a_compiler() -> None:
    alone, *both = members.answers(_train_alone, 1) + members.answers(_train, 2)
    (weights, stopped), (same, _) = both
    assert [(name, value.tobytes()) for name, value in weights.items()] == [
        (name, value.tobytes()) for name, value in same.items()
    ]
    assert stopped == [False] * (_STEPS - 1) + [True], "rank 1 wants that"
    for name, value in alone[0].items():
        assert weights[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def _train_alone() -> Any:
    return _trained(World())


def _train() -> Any:
    with joined() as world:
        return _trained(world)


def _trained(world: World) -> tuple[dict[str, Any], list[bool]]:
    # Each process draws what it drops for itself.
    recipe = recipe_for("Classification", "diagnosis", dropout=0)
    trainer: Any = begin(split_of(cancer(), recipe), recipe, world)[1]
    stopped = [trainer.advance(stop=step == _STEPS - 1 and not world.leads) for step in range(_STEPS)]
    trainer.restore(trainer.step, trainer.capture()())
    assert "torch._dynamo" not in sys.modules
    return {name: np.array(value.detach()) for name, value in trainer.network.state_dict().items()}, stopped
