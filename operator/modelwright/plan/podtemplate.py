"""The user's override of a pod template, merged over what the operator makes: a strategic merge patch.

As `kubectl patch --type=strategic` would: maps field by field, lists of things that have a key entry by entry, other
lists whole; null takes a field away, `$patch: delete` an entry or a map, and `$patch: replace` keeps nothing of what
was there. The keys are those of Kubernetes' own types (`patchMergeKey` in k8s.io/api/core/v1/types.go, v0.37).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from modelwright.api.podtemplate import WORKER, GangPods
from modelwright.plan.actions import Object

DIRECTIVE = "$patch"
MOST_ENTRIES = 256
"""Of a list that is merged entry by entry. No definition bounds those that Kubernetes alone knows."""
_DELETE, _REPLACE = "delete", "replace"
_WHOLE_LIST = {DIRECTIVE: _REPLACE}
"""An entry of a list that stands for none: nothing stays of what was there."""
Path: TypeAlias = tuple[str, ...]
"""Names of fields from the template down; entries of a list do not show in it."""


@dataclass(frozen=True)
class _Keyed:
    """A list whose entries are told apart by a field."""

    key: str
    choice: bool = False
    """An entry is one of several things: naming another one leaves nothing of the first (retainKeys in Kubernetes)."""
    beside: tuple[str, str] | None = None
    """Another field that tells them apart, and what it is where it is not there."""

    def identity(self, entry: Any) -> str:
        """Return what an entry is about, the same for two about the same thing; one without the key is about itself."""
        about = entry
        if isinstance(entry, dict) and entry.get(self.key) is not None:
            beside = {self.beside[0]: entry.get(*self.beside)} if self.beside else {}
            about = {self.key: entry[self.key], **beside}
        return json.dumps(about, sort_keys=True)


_CONTAINER_LISTS = {
    # In Kubernetes by the number alone, which one patch may name twice all the same.
    "ports": _Keyed("containerPort", beside=("protocol", "TCP")),
    # Not so in Kubernetes, where the client that makes a patch takes the old source away; here a person writes it.
    "env": _Keyed("name", choice=True),
    "volumeMounts": _Keyed("mountPath"),
    "volumeDevices": _Keyed("devicePath"),
}
_POD_LISTS = {
    "containers": _Keyed("name"),
    "initContainers": _Keyed("name"),
    "volumes": _Keyed("name", choice=True),
    "resourceClaims": _Keyed("name", choice=True),
    "imagePullSecrets": _Keyed("name"),
    "hostAliases": _Keyed("ip"),
    "topologySpreadConstraints": _Keyed("topologyKey"),
    "schedulingGates": _Keyed("name"),
}
_LISTS: Mapping[Path, _Keyed] = {
    **{("spec", field): keyed for field, keyed in _POD_LISTS.items()},
    **{
        ("spec", holder, field): keyed
        for holder in ("containers", "initContainers")
        for field, keyed in _CONTAINER_LISTS.items()
    },
}
"""Lists that are not here have no key in Kubernetes, and are replaced whole: tolerations, envFrom, affinity terms."""

_WHOLE: frozenset[Path] = frozenset({(), ("spec",), ("spec", f"containers[{WORKER}]")})
"""What a pod cannot do without."""


def merge(template: Object, patch: Object) -> Object:
    """Return a pod template with a patch merged into it. Neither argument is changed.

    Total: what has the wrong type takes the place of what was there, for the API server to refuse.
    """
    merged: Object = _map(template, patch, ())
    return merged


def problem(workers: GangPods) -> str | None:
    """Return what is wrong with an override that no schema can see, as `spec.workers.podTemplate...: ...`."""
    patch = workers.pod_template.patch() if workers.pod_template else {}
    for path, node in _maps(patch, ("spec.workers.podTemplate",)):
        where = ".".join(path)
        foreign = sorted(str(name) for name in node if str(name).startswith("$") and name != DIRECTIVE)
        if foreign:
            return f"{where}: the directive {foreign[0]} is not understood; there is $patch: delete, and replace"
        directive = node.get(DIRECTIVE)
        if directive is not None and directive not in (_DELETE, _REPLACE):
            return f"{where}: $patch is delete or replace, not {directive!r}"
        if directive is not None and path[1:] in _WHOLE:
            return f"{where}: $patch cannot take all of it away; give the fields that are to change"
        long = next(_too_long(node, path), None)
        if long is not None:
            return f"{where}.{long}: {len(node[long])} entries are too many; give {MOST_ENTRIES} at most"
    return None


def _map(target: Any, patch: Object, path: Path) -> Object:
    fields = {name: value for name, value in patch.items() if name != DIRECTIVE}
    if patch.get(DIRECTIVE) == _REPLACE or not isinstance(target, dict):
        target = {}
    result = dict(target)
    for name, value in fields.items():
        merged = _value(result.get(name), value, (*path, name))
        if merged is None:
            result.pop(name, None)
        else:
            result[name] = merged
    return result


def _value(target: Any, patch: Any, path: Path) -> Any:
    """Return what becomes of a field; None: it goes."""
    if isinstance(patch, dict):
        return None if patch.get(DIRECTIVE) == _DELETE else _map(target, patch, path)
    if isinstance(patch, list) and path not in _LISTS:
        return [entry for entry in patch if entry != _WHOLE_LIST]
    if isinstance(patch, list):
        return _list(target if isinstance(target, list) else [], patch, path, _LISTS[path])
    return patch


def _list(target: list[Any], patch: list[Any], path: Path, keyed: _Keyed) -> list[Any]:
    # Each is found at once: a list may be as long as the API server takes it, and everybody else's work waits for this.
    result = {} if _WHOLE_LIST in patch else {keyed.identity(entry): entry for entry in target}
    for entry in (entry for entry in patch if entry != _WHOLE_LIST):
        about = keyed.identity(entry)
        merged = _value(result.get(about), entry, path)
        if merged is None:
            result.pop(about, None)
        elif keyed.choice and isinstance(entry, dict):
            result[about] = {name: merged[name] for name in entry if name in merged}
        else:
            result[about] = merged
    return list(result.values())


def _too_long(node: Object, path: Path) -> Iterator[str]:
    """Yield the lists of a map that are merged entry by entry, and have too many of them; `path` as a person has it."""
    within = tuple(step.partition("[")[0] for step in path[1:])
    for name, child in node.items():
        if isinstance(child, list) and len(child) > MOST_ENTRIES and (*within, name) in _LISTS:
            yield name


def _maps(node: Any, path: Path) -> Iterator[tuple[Path, Object]]:
    """Yield every map of a patch with the way to it, as a person would write it."""
    if isinstance(node, dict):
        yield path, node
        for name, child in node.items():
            if isinstance(child, list):
                for number, entry in enumerate(child):
                    named = entry.get("name", number) if isinstance(entry, dict) else number
                    yield from _maps(entry, (*path, f"{name}[{named}]"))
            else:
                yield from _maps(child, (*path, str(name)))
