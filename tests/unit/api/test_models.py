"""The models read what users write, and write what they can read again."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from modelwright.api.kinds import KINDS
from modelwright.api.run import ResolvedStorage
from modelwright.api.schema import (
    API_VERSION,
    CLASSIFICATION_METRICS,
    LOWER_IS_BETTER,
    REGRESSION_METRICS,
    ApiModel,
)
from modelwright.api.trainingjob import Threshold, TrainingJobSpec
from modelwright.api.tuningsweep import TuningSweepSpec
from modelwright.plan import sweep_checks
from modelwright.plan.conditions import Reason

ROOT = Path(__file__).parents[3]
EXAMPLES = [
    manifest
    for path in sorted((ROOT / "examples").rglob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
BY_KIND = {kind.kind: kind for kind in KINDS}


def test_there_is_an_example_of_every_kind() -> None:
    assert {manifest["kind"] for manifest in EXAMPLES} == set(BY_KIND)
    assert {manifest["apiVersion"] for manifest in EXAMPLES} == {API_VERSION}


@pytest.mark.parametrize(
    "manifest", EXAMPLES, ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}"
)
def test_an_example_survives_being_read_and_written(manifest: dict[str, Any]) -> None:
    model = BY_KIND[manifest["kind"]].spec
    spec = model.model_validate(manifest["spec"])
    document = spec.document()
    assert model.model_validate(document) == spec
    assert _lost(manifest["spec"], document) == []


def _lost(written: Any, read: Any, path: str = "spec") -> list[str]:
    """Return what a user wrote and the document does not hold."""
    if isinstance(written, dict):
        return [
            lost
            for key, value in written.items()
            for lost in (_lost(value, read[key], f"{path}.{key}") if key in read else [f"{path}.{key}"])
        ]
    if isinstance(written, list):
        pairs = zip(written, read, strict=True)
        return [lost for number, pair in enumerate(pairs) for lost in _lost(*pair, f"{path}[{number}]")]
    return [] if written == read else [path]


def test_the_search_spaces_of_the_examples_fit_their_recipes() -> None:
    sweeps = [TuningSweepSpec.model_validate(entry["spec"]) for entry in EXAMPLES if entry["kind"] == "TuningSweep"]
    assert sweeps
    assert [sweep_checks.problem(sweep) for sweep in sweeps] == [None] * len(sweeps)


def test_a_field_of_a_newer_version_is_not_stumbled_over() -> None:
    assert TrainingJobSpec.model_validate({"fieldOfTomorrow": 1}) == TrainingJobSpec()


def test_a_quantity_of_any_length_is_refused() -> None:
    for length, valid in ((64, True), (65, False)):
        limits = {"workers": {"resources": {"limits": {"nvidia.com/gpu": "9" * length}}}}
        with nullcontext() if valid else pytest.raises(ValidationError, match="at most 64 characters"):
            TrainingJobSpec.model_validate(limits)


def test_a_value_cannot_be_changed() -> None:
    spec: Any = TrainingJobSpec()
    with pytest.raises(ValidationError, match="frozen"):
        spec.suspend = True


def test_what_is_unset_is_not_written() -> None:
    assert "recipe" not in TrainingJobSpec().document()
    assert TrainingJobSpec().document()["checkpoint"] == {"keep": {"last": 2}}
    assert "maxRestarts" not in TrainingJobSpec().document()["failurePolicy"]


@pytest.mark.parametrize("name", [*CLASSIFICATION_METRICS, *REGRESSION_METRICS])
def test_a_metric_is_of_one_task_and_may_have_a_threshold(name: str) -> None:
    assert Threshold(metric=name, min=0.5).metric == name
    assert (name in CLASSIFICATION_METRICS) != (name in REGRESSION_METRICS)


def test_which_metrics_are_losses() -> None:
    assert {"log_loss", "mae", "rmse"} == LOWER_IS_BETTER


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValidationError, match="accuracy"):
        Threshold(metric="acuracy", min=0.5)


def test_names_of_kinds_are_unlike_each_other() -> None:
    words = [word for kind in KINDS for word in (kind.kind, kind.plural, kind.short)]
    assert len(set(words)) == len(words)


def test_every_reason_is_a_camel_case_word_and_stands_in_the_reference() -> None:
    reference = (ROOT / "docs/conditions.md").read_text()
    for reason in Reason:
        assert re.fullmatch(r"([A-Z][a-z]+)+", reason)
        assert f"| `{reason}` |" in reference, f"docs/conditions.md does not explain {reason}"


def test_every_model_says_what_it_is() -> None:
    def below(model: type[ApiModel]) -> list[type[ApiModel]]:
        return [model, *(deeper for child in model.__subclasses__() for deeper in below(child))]

    assert [model.__name__ for model in below(ApiModel) if not model.__doc__] == []


@pytest.mark.parametrize("uri", ["s3://bucket/a?b", "s3://bucket/a#b", "s3://bucket/a\nb", "s3://bucket/?"])
def test_a_uri_of_which_a_parser_would_lose_a_part_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="uri"):
        ResolvedStorage(uri=uri)
