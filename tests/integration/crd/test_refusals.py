"""For every rule of every kind, a manifest that breaks it is refused with a sentence that names the field."""

from typing import Any

import pytest

from tests.integration.crd import rules
from tests.integration.crd.conftest import Api, RefusedError
from tests.integration.crd.rules import Rule

ALL = rules.all_rules()
CREATION = [rule for rule in ALL if rule.keyword != "change"]
CHANGE = [rule for rule in ALL if rule.keyword == "change"]


@pytest.mark.parametrize("rule", CREATION, ids=str)
def test_a_manifest_that_breaks_a_rule_is_refused_and_the_field_is_named(api: Api, rule: Rule) -> None:
    with pytest.raises(RefusedError) as refused:
        api.create(rules.breaking(rule))
    sentences = [cause.message for cause in refused.value.causes if cause.field == rule.blamed]
    assert any(rule.sentence in sentence for sentence in sentences), refused.value.causes


@pytest.mark.parametrize("rule", CHANGE, ids=lambda rule: rule.argument)
def test_a_change_of_an_unchangeable_field_is_refused_and_says_what_to_do(api: Api, rule: Rule) -> None:
    with pytest.raises(RefusedError) as refused:
        api.change(rule.kind, rules.REFUSED_AS_CHANGE[rule.argument])
    said = [cause.message for cause in refused.value.causes]
    assert f"Invalid value: {rule.argument}" in said
    # An endpoint comes with a uri, and then both have changed; nothing else may be wrong with the manifest.
    assert all("cannot be changed: create a new" in sentence for sentence in said)


def test_no_table_speaks_of_a_rule_that_is_gone() -> None:
    assert set(rules.REFUSED_BY_CEL) == {rule.argument for rule in ALL if rule.keyword == "cel"}
    assert set(rules.REFUSED_BY_PATTERN) == {rule.argument for rule in ALL if rule.keyword == "pattern"}
    assert set(rules.REFUSED_AS_CHANGE) == {rule.argument for rule in CHANGE}


@pytest.mark.parametrize("kind", rules.BASE)
@pytest.mark.parametrize("path", [(), ("spec",)], ids=["root", "spec"])
def test_an_unknown_field_is_refused_by_its_name(api: Api, kind: str, path: tuple[str, ...]) -> None:
    manifest = rules.example(kind)
    part = manifest["spec"] if path else manifest
    part["replica"] = 2
    with pytest.raises(RefusedError, match=rf'unknown field "{".".join((*path, "replica"))}"'):
        api.create(manifest)


@pytest.mark.parametrize(
    ("kind", "patch", "sentence"),
    [
        ("TrainingJob", {"workers": {"replicas": "two"}}, "spec.workers.replicas in body must be of type integer"),
        ("TrainingJob", {"suspend": "yes"}, "spec.suspend in body must be of type boolean"),
        ("TrainingJob", {"dataset": "s3://b/c"}, "spec.dataset in body must be of type object"),
        ("TuningSweep", {"searchSpace": "algorithm"}, "spec.searchSpace in body must be of type array"),
        ("ModelDeployment", {"model": {"version": 1.5}}, "spec.model.version in body must be of type int64"),
        ("DriftPolicy", {"test": {"minPsi": "high"}}, "spec.test.minPsi in body must be of type number"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(api: Api, kind: str, patch: dict[str, Any], sentence: str) -> None:
    manifest = rules.example(kind)
    with pytest.raises(RefusedError, match=sentence):
        api.create(manifest | {"spec": rules.merge(manifest["spec"], patch)})


@pytest.mark.parametrize("uri", ["s3://bucket/a?b", "s3://bucket/a#b", "s3://bucket/a\nb", "s3://bucket/a\tb"])
def test_a_uri_of_which_a_parser_would_lose_a_part_is_refused(api: Api, uri: str) -> None:
    with pytest.raises(RefusedError, match=r"spec\.dataset\.uri in body should match"):
        api.create(rules.merge(rules.example("TrainingJob"), {"spec": {"dataset": {"uri": uri}}}))


def test_a_policy_without_the_test_that_alone_may_trigger_is_refused(api: Api) -> None:
    patch = {"spec": {"alerts": None, "retraining": {"triggers": ["Alert"]}}}
    with pytest.raises(RefusedError, match="Alert needs alerts"):
        api.create(rules.merge(rules.example("DriftPolicy"), patch))


@pytest.mark.parametrize("kind", rules.BASE)
def test_an_object_without_a_spec_is_refused(api: Api, kind: str) -> None:
    manifest = rules.example(kind)
    del manifest["spec"]
    with pytest.raises(RefusedError, match="spec: Required value"):
        api.create(manifest)
