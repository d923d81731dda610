"""The state of what a program trains, as a tree of JSON and tensors by name, and back. Nothing is pickled."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

import safetensors.torch
import torch
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.checkpoint import state_dict as canonical
from torch.distributed.fsdp import FullyShardedDataParallel

from modelwright.runtime.failure import RunError

State: TypeAlias = Mapping[str, Any]
"""What a program gives by name: modules, optimizers, schedulers, anything with `state_dict` and `load_state_dict`."""
Tensors: TypeAlias = dict[str, Any]
_NAMED = 5
_DTYPES = frozenset(safetensors.torch._TYPES.values())  # noqa: SLF001 (it says nowhere else what it knows)
_SCALARS = (str, int, float, bool, type(None))


def split(state: State) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is the same on every process, and what each has for itself: all that torch does not keep alike."""
    alike = torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler
    shared = {name: value for name, value in state.items() if isinstance(value, alike)}
    return shared, {name: value for name, value in state.items() if name not in shared}


def collect(state: State) -> tuple[bytes, Tensors]:
    """Return the state as JSON, in which tensors are named, and the tensors. Raises TypeError for what is neither.

    The tensors are the live ones, not copies. Modules and optimizers are told by the names of their parameters,
    whatever they are wrapped in (DDP, FSDP, torch.compile), so that another number of processes can take them over.
    """
    tensors: Tensors = {}
    # Modules first: what is wrong with one of them is wrong with its optimizer.
    tree = {name: _encode(_read(name, value, state), name, tensors) for name, value in _modules_first(state)}
    return json.dumps(tree).encode(), tensors


def describe(tree: bytes, names: State) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of every tensor in the parts of a tree that have these names."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    document = json.loads(tree)
    for name in names:
        _describe(_part(document, name), found)
    return found


def updated(tree: bytes, state: State) -> dict[str, Any]:
    """Return, by the name of each tensor in the state of an optimizer, the parameter that it is kept for."""
    document = json.loads(tree)
    found: dict[str, Any] = {}
    for name, value in state.items():
        if not isinstance(value, torch.optim.Optimizer):
            continue
        parameters = [parameter for group in value.param_groups for parameter in group["params"]]
        names = [key for group in _names(value, state) or () for key in group]
        known = dict(enumerate(parameters)) | dict(zip(names, parameters, strict=False))
        for key, node in dict(_part(document, name)["dict"])["state"]["dict"]:
            tensors: dict[str, Any] = {}
            _describe(node, tensors)
            found |= dict.fromkeys(tensors, known.get(key))
    return found


def has_weights(tree: bytes, name: str) -> bool:
    """Tell whether the part of a tree has tensors that may have been learnt: those of a reader count, or are bytes."""
    dtypes = [getattr(torch, dtype) for _, dtype in describe(tree, {name: None}).values()]
    return any(dtype.is_floating_point or dtype.is_complex for dtype in dtypes)


def apply(tree: bytes, tensors: Tensors, state: State) -> None:
    """Give objects the state that a tree holds under their names. Raises `RunError` CheckpointMismatch."""
    document = json.loads(tree)
    values = {name: _decode(_part(document, name), tensors) for name in state}
    # Modules first: an optimizer is told by the parameters of its module.
    for name, value in _modules_first(state):
        try:
            _write(value, values[name], state)
        except (RuntimeError, LookupError, ValueError) as error:
            raise mismatch(f"the checkpoint's {name} does not fit: {error}") from error


def mismatch(message: str) -> RunError:
    """Return the error of a checkpoint that is whole, and is not of this program."""
    hint = "resume with the program that saved it, or start a new job"
    return RunError("CheckpointMismatch", f"{message[:1000]}; {hint}", retryable=False)


def _modules_first(state: State) -> list[tuple[str, Any]]:
    return sorted(state.items(), key=lambda item: not isinstance(item[1], torch.nn.Module))


def _read(name: str, value: Any, state: State) -> Any:
    if isinstance(value, torch.nn.Module):
        if any(isinstance(module, FullyShardedDataParallel) for module in value.modules()):
            raise TypeError(f"{name} is in FullyShardedDataParallel: a checkpoint takes what fully_shard has sharded")
        return canonical.get_model_state_dict(value)
    if isinstance(value, torch.optim.Optimizer):
        return _optimizer(value, _names(value, state))
    if not hasattr(value, "state_dict") or not hasattr(value, "load_state_dict"):
        kind = type(value).__name__
        raise TypeError(f"{name} is a {kind}: a checkpoint takes what has state_dict and load_state_dict")
    return value.state_dict()


def _write(value: Any, read: Any, state: State) -> None:
    if isinstance(value, torch.nn.Module):
        canonical.set_model_state_dict(value, read)
    elif isinstance(value, torch.optim.Optimizer):
        value.load_state_dict(_in_order(read, _names(value, state)))
    else:
        value.load_state_dict(read)


def _optimizer(optimizer: torch.optim.Optimizer, names: list[list[str]] | None) -> Any:
    told = optimizer.state_dict()
    if names is None:
        return told
    known = dict(enumerate(key for group in names for key in group))
    groups = [{**group, "params": keys} for group, keys in zip(told["param_groups"], names, strict=True)]
    entries = {known.get(key, key): entry for key, entry in told["state"].items()}
    return {**told, "state": entries, "param_groups": groups}


def _in_order(read: Any, names: list[list[str]] | None) -> Any:
    """Return what an optimizer has told with the parameters in its order now, which is all that it goes by."""
    theirs = {key: group for group in read["param_groups"] for key in group["params"]}
    if names is None or all(isinstance(key, int) for key in theirs):
        return read
    different = theirs.keys() ^ {key for group in names for key in group}
    if different:
        raise ValueError(f"it updates other parameters: {', '.join(sorted(map(str, different))[:_NAMED])}")
    # An empty group has no parameter to be known by.
    groups = [
        {**(theirs[keys[0]] if keys else read["param_groups"][number]), "params": keys}
        for number, keys in enumerate(names)
    ]
    return {**read, "param_groups": groups}


def _names(optimizer: torch.optim.Optimizer, state: State) -> list[list[str]] | None:
    """Return the names of the parameters in each group; None where they are not all of one module.

    Its own numbering has to do there.
    """
    groups = [group["params"] for group in optimizer.param_groups]
    for module in state.values():
        if isinstance(module, torch.nn.Module):
            known = {parameter: name for name, parameter in module.named_parameters()}
            if all(parameter in known for group in groups for parameter in group):
                return [[_canonical(module, known[parameter]) for parameter in group] for group in groups]
    return None


def _canonical(module: Any, name: str) -> str:
    (found,) = canonical._get_fqns(module, name)  # noqa: SLF001 (torch tells these of its own state dicts alone)
    return str(found)


def _encode(value: Any, path: str, tensors: Tensors) -> Any:
    if isinstance(value, torch.Tensor):
        _require_dense(value, path)
        tensors[path] = value.detach()
        return {"tensor": path, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, Counter):  # a dict to JSON, but a scheduler asks its milestones for more
        return {"counter": _encode(dict(value), path, tensors)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, _SCALARS) for key in value):
            raise TypeError(f"{path} has keys that JSON does not know: a checkpoint takes texts and numbers")
        # In pairs, for JSON would make a text of every key.
        return {"dict": [[key, _encode(entry, f"{path}/{key!r}", tensors)] for key, entry in value.items()]}
    if isinstance(value, tuple | list):
        word = "tuple" if isinstance(value, tuple) else "list"
        return {word: [_encode(entry, f"{path}/{number}", tensors) for number, entry in enumerate(value)]}
    if isinstance(value, _SCALARS):
        return value
    raise TypeError(f"{path} is a {type(value).__name__}: a checkpoint takes tensors, numbers, texts, lists and dicts")


def _require_dense(tensor: Any, path: str) -> None:
    sharded = isinstance(tensor, ShardedTensor)
    if sharded or tensor.layout != torch.strided or tensor.dtype not in _DTYPES:
        kind = "ShardedTensor" if sharded else f"tensor of {tensor.dtype}, {tensor.layout}"
        raise TypeError(f"{path} is a {kind}: a checkpoint takes dense tensors of a type that safetensors knows")


def _decode(node: Any, tensors: Tensors) -> Any:
    if not isinstance(node, dict):
        return node
    ((word, content),) = [(key, node[key]) for key in ("tensor", "counter", "dict", "tuple", "list") if key in node]
    if word == "tensor":
        return tensors[content]
    if word == "counter":
        return Counter(_decode(content, tensors))
    if word == "dict":
        return {key: _decode(entry, tensors) for key, entry in content}
    entries = [_decode(entry, tensors) for entry in content]
    return tuple(entries) if word == "tuple" else entries


def _describe(node: Any, found: dict[str, tuple[tuple[int, ...], str]]) -> None:
    if not isinstance(node, dict):
        return
    if "tensor" in node:
        found[node["tensor"]] = (tuple(node["shape"]), node["dtype"])
        return
    if "counter" in node:
        _describe(node["counter"], found)
        return
    entries = [entry for _, entry in node["dict"]] if "dict" in node else node["tuple" if "tuple" in node else "list"]
    for entry in entries:
        _describe(entry, found)


def _part(document: dict[str, Any], name: str) -> Any:
    if name not in document:
        raise mismatch(f"the checkpoint has no {name}, but {', '.join(document) or 'nothing'}")
    return document[name]
