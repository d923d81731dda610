"""`python -m modelwright.api.crd DIRECTORY`: the CustomResourceDefinitions, made from the pydantic models of the kinds.

pydantic speaks JSON Schema 2020-12; the API server wants a structural schema in the OpenAPI 3.0 dialect. The
differences are dealt with here and nowhere else: references are resolved, null is left out, bounds are respelt, and
nested objects get `default: {}`, so that a CEL rule may look into an object that the user did not write.
"""

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from modelwright.api.kinds import KINDS, MODEL_DEPLOYMENT, Column, Kind
from modelwright.api.schema import GROUP, VERSION, ApiModel, rule

Schema: TypeAlias = dict[str, Any]

_KEPT = (
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
_FORMATS = {"integer": "int64", "number": "double"}
_IDENTITY: Schema = {
    "apiVersion": {"type": "string", "description": "The version of this representation of the object."},
    "kind": {"type": "string", "description": "The REST resource that this object represents."},
    "metadata": {"type": "object"},
}
_HEADER = "# Made by `make crds` from operator/modelwright/api: change it there.\n"


def definition(kind: Kind) -> Schema:
    """Return the CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["modelwright", "ml"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": _subresources(kind),
                    "additionalPrinterColumns": [_printer_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _object(kind)},
                }
            ],
        },
    }


def structural(model: type[ApiModel], *, defaults: bool = True) -> Schema:
    """Return the structural schema of a model, with or without the defaults of its fields."""
    schema = model.model_json_schema(by_alias=True)
    return _Dialect(schema.pop("$defs", {}), defaults=defaults).convert(schema)


def _object(kind: Kind) -> Schema:
    spec = structural(kind.spec)
    unchangeable = [_unchangeable(kind, name) for name in kind.unchangeable]
    if unchangeable:
        spec["x-kubernetes-validations"] = [*spec.get("x-kubernetes-validations", ()), *unchangeable]
    # A status says what was observed; a default in it would be a claim that nobody made.
    status = structural(kind.status, defaults=False)
    return {
        "type": "object",
        "description": _description(kind),
        "required": ["spec"],
        "properties": {**_IDENTITY, "spec": spec, "status": status},
    }


def _description(kind: Kind) -> str:
    module = inspect.getmodule(kind.spec)
    text = (inspect.getdoc(module) or "").removeprefix(f"{kind.kind}: ")
    return text[:1].upper() + text[1:]


def _unchangeable(kind: Kind, name: str) -> Schema:
    return rule(
        f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})",
        f"spec.{name} cannot be changed: create a new {kind.kind}",
    )


def _subresources(kind: Kind) -> Schema:
    if kind is not MODEL_DEPLOYMENT:
        return {"status": {}}
    return {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}


def _printer_column(column: Column) -> Schema:
    entry: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    # kubectl shows columns of a priority above 0 only with `-o wide`.
    return {**entry, "priority": 1} if column.wide else entry


class _Dialect:
    """Turns JSON Schema as pydantic writes it into a structural schema."""

    def __init__(self, references: dict[str, Schema], *, defaults: bool) -> None:
        self._references = references
        self._defaults = defaults

    def convert(self, node: Schema) -> Schema:
        """Return the structural form of one node and of everything below it."""
        node = self._resolved(node)
        schema: Schema = {}
        if "description" in node:
            schema["description"] = " ".join(inspect.cleandoc(node["description"]).split())
        if node.get("x-kubernetes-int-or-string"):
            extras = ("x-kubernetes-int-or-string", "anyOf", "maxLength", "pattern", "minimum", "maximum")
            return schema | {key: node[key] for key in extras if key in node}
        schema |= {key: node[key] for key in _KEPT if key in node}
        _respell_bounds(schema)
        if schema["type"] in _FORMATS:
            schema.setdefault("format", _FORMATS[schema["type"]])
        self._add_default(schema, node)
        if "items" in node:
            schema["items"] = self.convert(node["items"])
        if node.get("additionalProperties") is True:
            # Of a model that takes more fields than it names.
            schema["x-kubernetes-preserve-unknown-fields"] = True
        elif "additionalProperties" in node:
            schema["additionalProperties"] = self.convert(node["additionalProperties"])
        if "properties" in node:
            schema["properties"] = {name: self.convert(field) for name, field in node["properties"].items()}
        return schema

    def _resolved(self, node: Schema) -> Schema:
        """Return a node without references and without the alternative null; what it says itself goes first."""
        own = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        if "$ref" in node:
            return self._resolved(self._references[node["$ref"].rpartition("/")[2]]) | own
        present = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
        if len(present) == 1:
            return self._resolved(present[0]) | own
        return node

    def _add_default(self, schema: Schema, node: Schema) -> None:
        default = node.get("default")
        # An empty list and no list mean the same: the object in the cluster stays as the user wrote it.
        if not self._defaults or default is None or default == []:
            return
        # The fields below have their own defaults, and the API server fills them in after this one.
        schema["default"] = {} if schema["type"] == "object" else default


def _respell_bounds(schema: Schema) -> None:
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            schema[bound], schema[exclusive] = schema[exclusive], True


class _Dumper(yaml.SafeDumper):
    """Writes a shared object out each time: anchors in a manifest help nobody."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def manifest(kind: Kind) -> str:
    """Return the definition as the text of a file."""
    return _HEADER + yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def chart_template(kind: Kind) -> str:
    """Return the definition as a Helm template, which is upgraded with the chart: what lies in a `crds/` is not."""
    before, mark, after = manifest(kind).partition("\nmetadata:\n")
    metadata = (
        "  labels:\n"
        '    {{- include "modelwright.labels" . | nindent 4 }}\n'
        "  {{- if .Values.crds.keep }}\n"
        "  annotations:\n"
        "    helm.sh/resource-policy: keep\n"
        "  {{- end }}\n"
    )
    return f"{{{{- if .Values.crds.enabled }}}}\n{before}{mark}{metadata}{after}{{{{- end }}}}\n"


def files(directory: Path, chart: Path | None) -> dict[Path, str]:
    """Return every file that should exist, by path."""
    wanted = {directory / f"{GROUP}_{kind.plural}.yaml": manifest(kind) for kind in KINDS}
    if chart is not None:
        wanted |= {chart / f"{kind.plural}.yaml": chart_template(kind) for kind in KINDS}
    return wanted


def stale(wanted: dict[Path, str]) -> list[Path]:
    """Return the files that are not as they should be, those of kinds that no longer exist included."""
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    folders = sorted({path.parent for path in wanted})
    return changed + [path for folder in folders for path in sorted(folder.glob("*.yaml")) if path not in wanted]


def main() -> int:
    """Write the files, or only say which of them are out of date; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m modelwright.api.crd", description=inspect.getdoc(definition))
    parser.add_argument("directory", type=Path, help="where the CustomResourceDefinitions go")
    parser.add_argument("--chart", type=Path, help="where the same go as Helm templates")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    arguments = parser.parse_args()
    wanted = files(arguments.directory, arguments.chart)
    outdated = stale(wanted)
    if arguments.check:
        for path in outdated:
            sys.stderr.write(f"{path} is not what the models make: run `make crds`\n")
        return 1 if outdated else 0
    for path in outdated:
        _bring_up_to_date(path, wanted.get(path))
    return 0


def _bring_up_to_date(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
