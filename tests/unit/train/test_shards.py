"""What each process has for itself: who gets it back."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from modelwright.registry.store import ObjectStore
from modelwright.runtime.failure import RunError
from modelwright.runtime.train.checkpoints import CheckpointStore
from modelwright.runtime.train.world import World
from modelwright.train import _alike, _state
from modelwright.train._saving import Saver
from modelwright.train._shards import Capture, Loading, capture, open_saved
from tests.unit.registry.fake_s3 import memory_store
from tests.unit.runtime_train.runs import run_of


class Holder:
    """Anything with a state."""

    def __init__(self, content: Any = None) -> None:
        self.content = content

    def state_dict(self) -> Any:
        return {"content": self.content}

    def load_state_dict(self, state: Any) -> None:
        self.content = state["content"]


class Reader(Holder):
    """One that rows come out of."""

    def __iter__(self) -> Iterator[int]:
        yield 0


@dataclass(frozen=True)
class Gang(World):
    """Processes that all have what rank 0 says, or what is told to have come from it."""

    first: Any = None

    def agree(self, value: Any) -> Any:
        return self.first or value

    def sum(self, values: Any) -> list[float]:
        return list(values)


def saved(*contents: Any) -> ObjectStore:
    """Save as many processes, each with its own state."""
    store = memory_store()
    gang = [(Gang(rank, len(contents)), content) for rank, content in enumerate(contents)]
    for world, state in reversed(gang):  # rank 0 waits for the others
        saver = Saver(CheckpointStore(store, run_of(), ""), world, "mine", lambda _: None)
        saver.save(8, capture(state, world), {})
        assert saver.finish(8)
    return store


def resumed(store: ObjectStore, state: Any, rank: int, size: int) -> Any:
    found = open_saved(CheckpointStore(store, run_of(), "").folder(8))
    assert found is not None
    loading = Loading(found, state, World(rank, size))
    assert loading.fetch()
    loading.apply()
    loading.close()
    return {name: value.content for name, value in state.items()}


def test_each_process_gets_its_own_back() -> None:
    mine = [torch.tensor([rank, 7]) for rank in range(2)]
    store = saved(*({"it": Holder(content), "reader": Reader(rank)} for rank, content in enumerate(mine)))
    for rank in range(2):
        found = resumed(store, {"it": Holder(), "reader": Reader()}, rank, 2)
        assert torch.equal(found["it"], mine[rank])
        assert found["reader"] == rank


@pytest.mark.parametrize("dtype", sorted(_state._DTYPES, key=str))
def test_tensors_of_every_type_that_is_taken_come_back(dtype: Any) -> None:
    content = torch.tensor([0, 1, 1]).to(dtype)
    found = resumed(saved({"it": Holder(content)}), {"it": Holder()}, 0, 1)["it"]
    assert found.dtype == dtype
    assert torch.equal(found.view(torch.uint8), content.view(torch.uint8))


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (2, 3)])
def test_what_all_had_alike_goes_to_any_number_of_processes(rank: int, size: int) -> None:
    store = saved(*({"average": Holder(torch.ones(2)), "best": Holder(0.5)} for _ in range(2)))
    found = resumed(store, {"average": Holder(), "best": Holder()}, rank, size)
    assert torch.equal(found["average"], torch.ones(2))
    assert found["best"] == 0.5


def test_a_reader_and_what_differed_begin_anew_on_another_number(caplog: pytest.LogCaptureFixture) -> None:
    store = saved(*({"reader": Reader(30), "noise": Holder(torch.tensor([rank]))} for rank in range(2)))
    for rank in range(3):
        assert resumed(store, {"reader": Reader("new"), "noise": Holder("new")}, rank, 3) == {
            "reader": "new",
            "noise": "new",
        }
    told = "begins anew: of 2 processes each had its own"
    assert [record.getMessage().split(f" {told} ") for record in caplog.records if told in record.getMessage()] == [
        ["noise", "noise, and now there are 3"],
        ["reader", "reader, and now there are 3"],
    ]


def test_a_reader_of_one_process_is_not_given_to_two() -> None:
    assert resumed(saved({"reader": Reader(30)}), {"reader": Reader("new")}, 1, 2) == {"reader": "new"}


def test_weights_that_differed_are_for_as_many_processes_alone() -> None:
    store = saved(*({"stage": Holder(torch.tensor([float(rank)]))} for rank in range(2)))
    with pytest.raises(RunError, match="of 2 processes each had its own stage, and now there are 3") as caught:
        resumed(store, {"stage": Holder()}, 0, 3)
    assert (caught.value.reason, caught.value.retryable) == ("CheckpointMismatch", False)


def test_a_checkpoint_from_before_has_what_rank_0_had_for_all() -> None:
    tree, tensors = _state.collect({"it": Holder(torch.tensor([3]))})
    alone = capture({"it": Holder(torch.tensor([3]))}, World())
    store = memory_store()
    saver = Saver(CheckpointStore(store, run_of(), ""), World(), "mine", lambda _: None)
    saver.save(8, Capture(tree, alone.copies, alone.parts, everywhere=False), {})
    assert saver.finish(8)
    assert list(tensors) == list(alone.copies)
    assert resumed(store, {"it": Holder()}, 1, 2)["it"].tolist() == [3]


def seeded(seed: int, *shape: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(*shape), torch.nn.BatchNorm1d(shape[-1]))


def compare(first: Any, other: Any) -> None:
    marks = {name: _alike._marks(module) for name, module in first.items()}
    _alike.require(other, Gang(1, 2, first=marks))


def test_modules_that_differ_in_buffers_and_in_rounding_are_alike() -> None:
    first, other = seeded(0, 30, 4), seeded(0, 30, 4)
    other[1].running_mean += 1
    with torch.no_grad():
        other[0].weight *= 1 + 1e-5
    compare({"model": first}, {"model": other})
    with torch.no_grad():
        first[0].bias.fill_(torch.nan)
        other[0].bias.fill_(torch.nan)
    compare({"model": first}, {"model": other})


@pytest.mark.parametrize(
    "other",
    [
        {"same": seeded(0, 5, 4), "stage": seeded(2, 30, 4)},
        {"same": seeded(0, 5, 4), "stage": seeded(1, 30, 5)},
        {"same": seeded(0, 5, 4), "stage": torch.nn.Linear(30, 4)},
        {"same": seeded(0, 5, 4), "another": seeded(1, 30, 4)},
    ],
)
def test_a_module_that_is_another_one_on_another_process_is_named(other: Any) -> None:
    with pytest.raises(ValueError, match=r"^stage: not the same on all processes"):
        compare({"same": seeded(0, 5, 4), "stage": seeded(1, 30, 4)}, other)


def test_an_optimizer_of_a_module_that_is_given_in_another_object_is_one_for_all_too() -> None:
    first, other = (torch.optim.SGD(seeded(seed, 30, 4).parameters()) for seed in range(2))
    with pytest.raises(ValueError, match=r"^optimizer: not the same on all processes"):
        compare({"optimizer": first}, {"optimizer": other})
