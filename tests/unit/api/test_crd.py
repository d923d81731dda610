"""The CustomResourceDefinitions are what the models say, in the dialect that the API server speaks."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import ConfigDict, Field

from modelwright.api import crd
from modelwright.api.kinds import KINDS, MODEL_DEPLOYMENT, TRAINING_JOB, Kind
from modelwright.api.schema import ApiModel, Quantity, rule, rules

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/modelwright/templates/crds"


class Inner(ApiModel):
    """An inner value."""

    size: Annotated[int, Field(gt=0, le=9)] = 3
    """How large."""


class Outer(ApiModel):
    """An outer value."""

    inner: Inner = Inner()
    maybe: Inner | None = None
    """Something that
    may be there."""
    ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    names: Annotated[tuple[str, ...], Field(max_length=4)] = ()
    amount: Quantity
    labels: dict[str, Annotated[str, Field(max_length=63)]] = Field(default_factory=dict)


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema below a schema, and its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if keyword in schema:
            yield from nodes(schema[keyword], path + mark)


def root(kind: Kind) -> dict[str, Any]:
    return crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def _spec(kind: Kind) -> dict[str, Any]:
    spec: dict[str, Any] = root(kind)["properties"]["spec"]
    return spec


def fields(kind: Kind) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in ("spec", "status"):
        yield from nodes(root(kind)["properties"][part], part)


def test_the_files_in_the_repository_are_what_the_models_make() -> None:
    assert crd.stale(crd.files(ROOT / "crds", CHART)) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_field_tells_what_it_is(kind: Kind) -> None:
    # The entries of a list or a map are told of by the field that holds them.
    named = [(path, node) for path, node in fields(kind) if not path.endswith(("[]", "{}"))]
    assert [path for path, node in named if not node.get("description", "").endswith((".", "`"))] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_list_map_and_text_that_a_user_writes_is_bounded(kind: Kind) -> None:
    bounds = {"array": "maxItems", "string": "maxLength"}
    spec = [(path, node) for path, node in fields(kind) if path.startswith("spec") and "enum" not in node]
    assert [path for path, node in spec if (bound := bounds.get(node.get("type", ""))) and bound not in node] == []
    maps = [(path, node) for path, node in spec if "additionalProperties" in node]
    assert [path for path, node in maps if "maxProperties" not in node] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_status_has_no_defaults(kind: Kind) -> None:
    assert [path for path, node in fields(kind) if path.startswith("status") and "default" in node] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_an_unchangeable_field_is_a_field(kind: Kind) -> None:
    assert set(kind.unchangeable) <= {path.removeprefix(".") for path, _ in nodes(_spec(kind))}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_printer_column_shows_a_field_that_exists(kind: Kind) -> None:
    for column in kind.columns:
        schema = root(kind)["properties"]
        plain = column.path.partition("[")[0].strip(".").split(".")
        if plain[0] == "metadata":
            continue
        for step in plain:
            assert step in schema, column
            schema = schema[step].get("properties", {})


def test_a_field_of_a_field_can_be_unchangeable() -> None:
    said = {entry["message"]: entry["rule"] for entry in _spec(MODEL_DEPLOYMENT)["x-kubernetes-validations"]}
    rule_ = said["spec.model.name cannot be changed: create a new ModelDeployment"]
    assert rule_.endswith("self.model.name == oldSelf.model.name)")


def test_a_structural_schema_has_no_references_no_null_and_openapi_bounds() -> None:
    size = {
        "description": "How large.",
        "type": "integer",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 9,
        "format": "int64",
        "default": 3,
    }
    assert crd.structural(Outer) == {
        "description": "An outer value.",
        "type": "object",
        "required": ["amount"],
        "properties": {
            "inner": {
                "description": "An inner value.",
                "type": "object",
                "default": {},
                "properties": {"size": size},
            },
            "maybe": {
                "description": "Something that may be there.",
                "type": "object",
                "properties": {"size": size},
            },
            "ratio": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "exclusiveMaximum": True,
                "format": "double",
            },
            "names": {"type": "array", "maxItems": 4, "items": {"type": "string"}},
            "amount": {
                "x-kubernetes-int-or-string": True,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "maxLength": 64,
                "pattern": r"^[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
            },
            "labels": {
                "type": "object",
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
        },
    }


def test_a_model_that_takes_more_than_it_names_keeps_unknown_fields() -> None:
    class Open(Inner):
        """An open value."""

        model_config = ConfigDict(extra="allow")

    schema = crd.structural(Open)
    assert schema["x-kubernetes-preserve-unknown-fields"] is True
    assert schema["properties"]["size"]["default"] == 3
    assert "x-kubernetes-preserve-unknown-fields" not in crd.structural(Inner)


def test_without_defaults_none_is_left_at_any_depth() -> None:
    assert not [path for path, node in nodes(crd.structural(Outer, defaults=False)) if "default" in node]


def test_rules_of_the_models_come_before_the_rules_against_change() -> None:
    own = [entry["message"] for entry in crd.structural(TRAINING_JOB.spec)["x-kubernetes-validations"]]
    said = [entry["message"] for entry in root(TRAINING_JOB)["properties"]["spec"]["x-kubernetes-validations"]]
    assert said[: len(own)] == own
    assert said[len(own)] == "spec.framework cannot be changed: create a new TrainingJob"
    assert len(said) == len(own) + len(TRAINING_JOB.unchangeable)


def test_a_rule_is_carried_with_its_sentence() -> None:
    class Ruled(Inner):
        """A ruled value."""

        model_config = ConfigDict(json_schema_extra=rules(rule("self.size != 4", "four is not allowed")))

    assert crd.structural(Ruled)["x-kubernetes-validations"] == [
        {"rule": "self.size != 4", "message": "four is not allowed"}
    ]


def test_only_a_deployment_can_be_scaled() -> None:
    scalable = [kind for kind in KINDS if "scale" in crd.definition(kind)["spec"]["versions"][0]["subresources"]]
    assert scalable == [MODEL_DEPLOYMENT]


def test_a_file_is_the_definition_and_says_where_to_change_it() -> None:
    text = crd.manifest(TRAINING_JOB)
    assert yaml.safe_load(text) == crd.definition(TRAINING_JOB)
    assert text.startswith("# Made by `make crds`")


def test_no_text_of_the_models_is_taken_for_a_helm_action() -> None:
    for kind in KINDS:
        assert "{{" not in crd.manifest(kind)


def test_check_names_what_is_missing_changed_or_left_over(tmp_path: Path) -> None:
    wanted = crd.files(tmp_path / "crds", None)
    missing, changed, *rest = wanted
    (tmp_path / "crds").mkdir()
    changed.write_text("kind: Nothing\n")
    for path in rest:
        path.write_text(wanted[path])
    left_over = tmp_path / "crds/modelwright.dev_formers.yaml"
    left_over.write_text("")
    assert set(crd.stale(wanted)) == {missing, changed, left_over}


def test_the_command_writes_the_files_and_check_is_then_content(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "modelwright.api.crd", str(tmp_path / "crds"), *words]
        environment = {"PYTHONPATH": str(ROOT / "operator")}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    before = run("--check")
    assert (before.returncode, before.stderr.count("run `make crds`")) == (1, len(KINDS))
    assert run("--chart", str(tmp_path / "chart")).returncode == 0
    assert run("--check", "--chart", str(tmp_path / "chart")).returncode == 0
    (tmp_path / "crds/modelwright.dev_formers.yaml").write_text("")
    assert run().returncode == 0
    assert len(list((tmp_path / "crds").iterdir())) == len(KINDS)
