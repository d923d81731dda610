"""What the API server takes, what it makes of it, and what it shows."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.standalone import find
from modelwright.api.kinds import KINDS, Kind
from modelwright.api.trainingjob import TrainingJobSpec
from tests.integration.crd import rules
from tests.integration.crd.conftest import Api
from tests.unit.test_docs import PAGES, manifests

EXAMPLES = sorted(rules.EXAMPLES.rglob("*.yaml"))
BY_KIND = {kind.kind: kind for kind in KINDS}


def kubectl(api: Api, *words: str) -> str:
    command = [find("kubectl"), f"--kubeconfig={api.kubeconfig}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def renamed(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest | {"metadata": {"generateName": "accepted-"}}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(rules.EXAMPLES)))
def test_every_example_is_accepted(api: Api, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        api.create(renamed(manifest))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(rules.ROOT)))
def test_every_manifest_in_the_docs_is_accepted(api: Api, page: Path) -> None:
    for manifest in manifests(page):
        api.create(renamed(manifest))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(rules.EXAMPLES)))
def test_a_spec_that_the_operator_writes_back_is_accepted_and_means_the_same(api: Api, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        model = BY_KIND[manifest["kind"]].spec
        written = model.model_validate(manifest["spec"]).document()
        served = api.create(renamed(manifest) | {"spec": written})["spec"]
        assert model.model_validate(served) == model.model_validate(manifest["spec"])


def test_a_pod_template_comes_back_as_it_was_written(api: Api) -> None:
    claims = [{"name": "gpus", "resourceClaimTemplateName": "two-gpus"}]
    worker = {"name": "worker", "resources": {"claims": [{"name": "gpus"}]}, "env": [{"name": "A", "$patch": "delete"}]}
    written = {"hostNetwork": True, "resourceClaims": claims, "containers": [worker], "affinity": {"$patch": "replace"}}
    manifest = rules.merge(rules.example("TrainingJob"), {"spec": {"workers": {"podTemplate": {"spec": written}}}})
    served = api.create(renamed(manifest))["spec"]
    assert served["workers"]["podTemplate"]["spec"] == written
    template = TrainingJobSpec.model_validate(served).workers.pod_template
    assert template is not None
    assert template.patch()["spec"] == written


@pytest.mark.parametrize("kind", rules.BASE)
def test_the_api_server_and_the_models_fill_in_the_same_defaults(api: Api, kind: str) -> None:
    manifest = rules.example(kind)
    served = api.create(renamed(manifest))["spec"]
    assert not _differences(BY_KIND[kind].spec.model_validate(manifest["spec"]).document(), served)


def _differences(ours: Any, theirs: Any, path: str = "spec") -> list[str]:
    """Return where the two differ; an empty list or map is nothing."""
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return [] if ours == theirs or isinstance(ours, list) else [f"{path}: {ours} is not {theirs}"]
    return [
        difference
        for name in ours.keys() | theirs.keys()
        if ours.get(name) not in ([], {}) or theirs.get(name) not in (None, [], {})
        for difference in _differences(ours.get(name), theirs.get(name), f"{path}.{name}")
    ]


@pytest.mark.parametrize("length", [1, 63, 64, 253])
def test_a_name_of_any_length_that_kubernetes_allows_is_accepted(api: Api, length: int) -> None:
    api.create(rules.example("TrainingJob") | {"metadata": {"name": "n" * length}})


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("TrainingJob", {"suspend": True}),
        ("TrainingJob", {"activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 60}),
        ("TrainingJob", {"failurePolicy": {"maxRestarts": 900, "budgets": {"infrastructure": 500}}}),
        ("TrainingJob", {"failurePolicy": None}),
        ("TuningSweep", {"maxTrials": 100, "parallelism": 8, "maxRestarts": 1, "suspend": True}),
        ("ModelDeployment", {"model": {"alias": None, "version": 4}, "replicas": 5}),
        ("ModelDeployment", {"storage": {"secretName": "newer-keys", "region": "eu-west-1"}}),
        ("DriftPolicy", {"test": None, "suspend": True}),
    ],
)
def test_what_may_change_may_change(api: Api, kind: str, patch: dict[str, Any]) -> None:
    api.change(kind, patch)


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("TuningSweep", {"objective": {"metric": "log_loss", "goal": "Minimize"}}),
        ("TuningSweep", {"objective": {"metric": "f1", "goal": "Maximize"}}),
        ("DriftPolicy", {"test": None, "retraining": {"triggers": ["Alert"]}}),
        ("DriftPolicy", {"alerts": None}),
        ("DriftPolicy", {"retraining": None, "alerts": None}),
    ],
)
def test_what_contradicts_nothing_is_accepted(api: Api, kind: str, patch: dict[str, Any]) -> None:
    manifest = renamed(rules.example(kind))
    api.create(manifest | {"spec": rules.merge(manifest["spec"], patch)})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_kubectl_explain_shows_the_docs(api: Api, kind: Kind) -> None:
    text = " ".join(kubectl(api, "explain", f"{kind.plural}.spec").split())
    for field in kind.spec.model_fields.values():
        assert " ".join((field.description or "").split()) in text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_kubectl_get_answers_the_first_question(api: Api, kind: Kind) -> None:
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    said = ready | {"reason": "Pending", "message": "Said in a sentence."}
    api.write_status(kind.kind, rules.example(kind.kind)["metadata"]["name"], {"conditions": [said]})
    header, row, *_ = kubectl(api, "get", kind.short).splitlines()
    assert header.split() == ["NAME", *(column.name.upper() for column in kind.columns if not column.wide)]
    assert "Pending" in row.split()
    assert "Said in a sentence." in kubectl(api, "get", kind.short, "--output=wide")


def test_one_word_lists_everything_of_ours(api: Api) -> None:
    listed = kubectl(api, "get", "modelwright", "--output=name").splitlines()
    assert {line.partition(".")[0] for line in listed} == {kind.kind.lower() for kind in KINDS}


def test_a_deployment_can_be_scaled(api: Api) -> None:
    kubectl(api, "scale", "modeldeployment/flight-delays", "--replicas=3")
    served = json.loads(kubectl(api, "get", "mdep", "flight-delays", "--output=json"))
    assert served["spec"]["replicas"] == 3
