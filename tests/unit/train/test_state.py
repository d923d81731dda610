"""A state becomes JSON and tensors, and comes back as it was."""

import json
import math
import re
from collections import Counter
from typing import Any

import pytest
import torch
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.fsdp import FullyShardedDataParallel

from modelwright.runtime.failure import RunError
from modelwright.train import _state


class Holder:
    """Anything with a state."""

    def __init__(self, content: Any = None) -> None:
        self.content = content

    def state_dict(self) -> Any:
        return self.content

    def load_state_dict(self, content: Any) -> None:
        self.content = content


def there_and_back(content: Any) -> Any:
    tree, tensors = _state.collect({"it": Holder(content)})
    found = Holder()
    _state.apply(tree, tensors, {"it": found})
    return found.content


@pytest.mark.parametrize(
    "content",
    [
        {"lr": 0.1, "betas": (0.9, 0.999), "names": ["a", "b"], "on": True, "none": None, "best": math.inf},
        {0: {"step": 3}, "0": {"step": 4}, None: 5, True: 6},
        {"tensor": "a text under a word of ours", "dict": [], "list": {}, "tuple": ()},
        dict(Counter([5, 5, 9])),
        {"milestones": Counter([5, 5, 9])},
        [],
    ],
)
def test_numbers_texts_lists_and_dicts_come_back_with_their_types(content: Any) -> None:
    found = there_and_back(content)
    assert found == content
    assert repr(found) == repr(content)


def test_tensors_are_told_apart_by_their_place() -> None:
    content = {0: torch.tensor([1.0]), "0": torch.tensor([2]), "deep": [{"a": torch.tensor(3, dtype=torch.uint8)}]}
    found = there_and_back(content)
    assert (found[0].item(), found["0"].item(), found["deep"][0]["a"].item()) == (1.0, 2, 3)
    assert found["deep"][0]["a"].dtype == torch.uint8


@pytest.mark.parametrize("content", [{"rng": object()}, {(1, 2): 3}, {"a": {1, 2}}])
def test_what_neither_json_nor_a_tensor_can_hold_is_named(content: Any) -> None:
    with pytest.raises(TypeError, match=r"it.* a checkpoint takes"):
        _state.collect({"it": Holder(content)})


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (lambda: torch.eye(2).to_sparse(), "tensor of torch.float32, torch.sparse_coo"),
        (lambda: torch.ones(2, dtype=torch.complex128), "tensor of torch.complex128, torch.strided"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "tensor of torch.qint8, torch.strided"),
        (lambda: torch.Tensor._make_subclass(ShardedTensor, torch.ones(2)), "ShardedTensor"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_a_tensor_that_cannot_be_written_is_named(tensor: Any, kind: str) -> None:
    held = {"it": Holder({"adj": tensor()})}
    with pytest.raises(TypeError, match=f"it/'adj' is a {re.escape(kind)}: a checkpoint takes dense tensors"):
        _state.collect(held)


def test_a_network_that_torchs_first_fsdp_wraps_is_named() -> None:
    wrapped = torch.nn.Sequential(FullyShardedDataParallel.__new__(FullyShardedDataParallel))
    with pytest.raises(TypeError, match="model is in FullyShardedDataParallel: a checkpoint takes what fully_shard"):
        _state.collect({"model": wrapped})


def test_a_warm_up_goes_on_to_the_milestones_after_it() -> None:
    def fresh() -> tuple[Any, Any]:
        schedulers = torch.optim.lr_scheduler
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        parts = [schedulers.LinearLR(optimizer, 0.1, total_iters=2), schedulers.MultiStepLR(optimizer, [1, 3])]
        return optimizer, schedulers.SequentialLR(optimizer, parts, milestones=[2])

    def advance(optimizer: Any, scheduler: Any) -> float:
        optimizer.step()
        scheduler.step()
        return float(optimizer.param_groups[0]["lr"])

    one, other = fresh(), fresh()
    advance(*one)
    _state.apply(*_copied(dict(zip("os", one, strict=True))), dict(zip("os", other, strict=True)))
    assert [advance(*one) for _ in range(5)] == [advance(*other) for _ in range(5)]


def test_a_value_without_a_state_is_named() -> None:
    with pytest.raises(TypeError, match="epoch is a int: a checkpoint takes what has state_dict"):
        _state.collect({"epoch": 3})


def test_names_of_parameters_do_not_tell_how_a_module_is_wrapped() -> None:
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    wrapped = torch.compile(module)
    plain = _state.collect({"model": module, "optimizer": optimizer})
    assert _state.collect({"model": wrapped, "optimizer": optimizer})[0] == plain[0]
    assert set(plain[1]) >= {"model/'weight'", "optimizer/'state'/'weight'/'momentum_buffer'"}


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.LBFGS])
def test_an_optimizer_goes_on_exactly_where_it_was(kind: Any) -> None:
    def fresh() -> tuple[Any, Any]:
        torch.manual_seed(0)
        module = torch.nn.Linear(3, 1)
        return module, kind(module.parameters(), lr=0.05)

    def advance(module: Any, optimizer: Any) -> None:
        def loss() -> Any:
            optimizer.zero_grad()
            value = (module(torch.ones(4, 3)) - 1).square().mean()
            value.backward()
            return value

        optimizer.step(loss)

    whole, first, second = fresh(), fresh(), fresh()
    for pair in (whole, first, whole):
        advance(*pair)
    tree, tensors = _state.collect({"model": first[0], "optimizer": first[1]})
    _state.apply(tree, tensors, {"optimizer": second[1], "model": second[0]})
    advance(*second)
    assert torch.equal(second[0].weight, whole[0].weight)


def test_a_state_of_another_program_is_refused_with_what_is_different() -> None:
    tree, tensors = _state.collect({"model": torch.nn.Linear(2, 1)})
    with pytest.raises(RunError, match=r"has no critic, but model; resume with the program that saved it"):
        _state.apply(tree, tensors, {"critic": torch.nn.Linear(2, 1)})
    with pytest.raises(RunError, match="the checkpoint's model does not fit") as caught:
        _state.apply(tree, tensors, {"model": torch.nn.Linear(3, 1)})
    assert (caught.value.reason, caught.value.retryable) == ("CheckpointMismatch", False)


def test_only_the_parts_that_are_wanted_are_described() -> None:
    tree, _ = _state.collect({"a": torch.nn.Linear(2, 1), "b": torch.nn.Linear(3, 1, bias=False)})
    assert _state.describe(tree, {"b": None}) == {"b/'weight'": ((1, 3), "float32")}
    assert json.loads(tree).keys() == {"a", "b"}


def _stepped(module: Any, optimizer: Any, used: Any) -> None:
    optimizer.zero_grad()
    used(torch.ones(1, 2)).sum().backward()
    optimizer.step()


def test_a_parameter_that_is_never_in_the_loss_keeps_no_loop_from_going_on() -> None:
    def fresh() -> tuple[Any, Any]:
        torch.manual_seed(0)
        module = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 1), "spare": torch.nn.Linear(2, 1)})
        return module, torch.optim.AdamW(module.parameters(), lr=0.1)

    whole, optimizer = fresh()
    for _ in range(2):
        _stepped(whole, optimizer, whole["used"])
    saved = _state.collect({"model": whole, "optimizer": optimizer})
    copies = {name: value.clone() for name, value in saved[1].items()}
    _stepped(whole, optimizer, whole["used"])
    again, other = fresh()
    _state.apply(saved[0], copies, {"model": again, "optimizer": other})
    _stepped(again, other, again["used"])
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_an_optimizer_of_other_parameters_is_told_so() -> None:
    module = torch.nn.ModuleDict({"one": torch.nn.Linear(2, 1), "two": torch.nn.Linear(2, 1)})
    narrow = torch.optim.SGD(module["one"].parameters(), lr=0.1, momentum=0.9)
    tree, tensors = _state.collect({"model": module, "optimizer": narrow})
    wide = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(RunError, match=r"updates other parameters: two\.bias, two\.weight"):
        _state.apply(tree, tensors, {"model": module, "optimizer": wide})


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.RAdam])
def test_saving_changes_nothing_of_an_optimizer_that_has_made_no_step(kind: Any) -> None:
    def fresh() -> tuple[Any, Any]:
        torch.manual_seed(0)
        module = torch.nn.Linear(2, 1)
        return module, kind(module.parameters(), lr=0.1)

    untouched, optimizer = fresh()
    _stepped(untouched, optimizer, untouched)
    saving, other = fresh()
    tree, tensors = _state.collect({"model": saving, "optimizer": other})
    copies = {name: value.clone() for name, value in tensors.items()}
    _stepped(saving, other, saving)
    restored, third = fresh()
    _state.apply(tree, copies, {"model": restored, "optimizer": third})
    _stepped(restored, third, restored)
    for module in (saving, restored):
        assert torch.equal(module.weight, untouched.weight)


def test_an_empty_group_of_an_optimizer_keeps_its_settings() -> None:
    def fresh() -> tuple[Any, Any]:
        torch.manual_seed(0)
        module = torch.nn.Linear(2, 1)
        return module, torch.optim.AdamW([{"params": [], "lr": 0.5}, {"params": module.parameters()}], lr=0.1)

    module, optimizer = fresh()
    _stepped(module, optimizer, module)
    tree, tensors = _state.collect({"model": module, "optimizer": optimizer})
    copies = {name: value.clone() for name, value in tensors.items()}
    again, other = fresh()
    _state.apply(tree, copies, {"model": again, "optimizer": other})
    for each, its in ((module, optimizer), (again, other)):
        _stepped(each, its, each)
    assert torch.equal(module.weight, again.weight)
    assert [group["lr"] for group in other.param_groups] == [0.5, 0.1]


def _copied(state: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    tree, tensors = _state.collect(state)
    return tree, {name: value.clone() for name, value in tensors.items()}


def test_what_is_frozen_when_a_loop_resumes_has_its_moments_when_it_is_thawed() -> None:
    def fresh() -> tuple[Any, Any]:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
        module[0].requires_grad_(False)
        return module, torch.optim.AdamW(module.parameters(), lr=0.1)

    whole, optimizer = fresh()
    for step in range(4):
        whole[0].requires_grad_(step > 0)
        _stepped(whole, optimizer, whole)
        if step == 2:
            saved = _copied({"model": whole, "optimizer": optimizer})
    again, other = fresh()
    _state.apply(*saved, {"model": again, "optimizer": other})
    again[0].requires_grad_(True)
    _stepped(again, other, again)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_an_optimizer_of_sparse_gradients_goes_on() -> None:
    def fresh() -> dict[str, Any]:
        torch.manual_seed(0)
        module = torch.nn.Embedding(9, 2, sparse=True)
        return {"model": module, "optimizer": torch.optim.SparseAdam(module.parameters(), lr=0.1)}

    def advance(state: dict[str, Any]) -> None:
        state["optimizer"].zero_grad()
        state["model"](torch.tensor([1, 2])).sum().backward()
        state["optimizer"].step()

    first, second = fresh(), fresh()
    advance(first)
    _state.apply(*_copied(first), second)
    for state in (first, second):
        advance(state)
    assert torch.equal(first["model"].weight, second["model"].weight)


class Guarded(torch.optim.SGD):
    """An optimizer that makes no step by itself, as one that needs a closure."""

    def step(self, closure: Any = None) -> Any:
        raise AssertionError("a closure is required")


def test_neither_saving_nor_resuming_makes_a_step_or_calls_a_hook_of_one() -> None:
    module, calls = torch.nn.Linear(2, 1), []
    plain, hooked = torch.optim.AdamW(module.parameters()), torch.optim.AdamW(module.parameters())
    _stepped(module, plain, module)
    module.zero_grad()
    hooked.register_step_post_hook(lambda *_: calls.append(1))
    _state.apply(*_copied({"model": module, "optimizer": hooked}), {"model": module, "optimizer": hooked})
    _state.apply(*_copied({"model": module, "optimizer": plain}), {"model": module, "optimizer": hooked})
    assert not calls
    guarded = Guarded(module.parameters(), lr=0.1)
    saved = _copied({"model": module, "optimizer": guarded})
    guarded.param_groups[0]["lr"] = 0.2
    _state.apply(*saved, {"model": module, "optimizer": guarded})
    assert guarded.param_groups[0]["lr"] == 0.1


def test_gradients_that_are_there_do_not_keep_an_optimizer_from_what_was_saved() -> None:
    module, again = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    optimizer, other = torch.optim.AdamW(module.parameters()), torch.optim.AdamW(again.parameters())
    _stepped(module, optimizer, module)
    again(torch.ones(1, 2)).sum().backward()
    _state.apply(*_copied({"model": module, "optimizer": optimizer}), {"model": again, "optimizer": other})
    assert [float(entry["step"]) for entry in other.state.values()] == [1, 1]


def test_the_settings_of_a_group_are_those_of_its_parameters_in_any_order() -> None:
    module = torch.nn.Linear(2, 1)
    weight, bias = {"params": [module.weight], "lr": 0.5}, {"params": [module.bias], "lr": 0.1}
    one, other = (
        torch.optim.AdamW([weight, bias]),
        torch.optim.AdamW([{"params": [module.bias]}, {"params": [module.weight]}]),
    )
    _stepped(module, one, module)
    _state.apply(*_copied({"model": module, "optimizer": one}), {"model": module, "optimizer": other})
    assert [group["lr"] for group in other.param_groups] == [0.1, 0.5]
    assert torch.equal(other.state[module.weight]["exp_avg"], one.state[module.weight]["exp_avg"])


def test_an_optimizer_that_was_saved_by_numbers_is_taken_over_by_names() -> None:
    module = torch.nn.Linear(2, 1)
    optimizer, other = torch.optim.AdamW(module.parameters()), torch.optim.AdamW(module.parameters())
    _stepped(module, optimizer, module)
    model, numbered = _copied({"model": module}), _copied({"optimizer": optimizer})
    tree = json.dumps(json.loads(model[0]) | json.loads(numbered[0])).encode()
    _state.apply(tree, model[1] | numbered[1], {"model": module, "optimizer": other})
    assert torch.equal(other.state[module.weight]["exp_avg"], optimizer.state[module.weight]["exp_avg"])
