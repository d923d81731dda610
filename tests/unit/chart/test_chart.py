"""The chart as a whole: definitions, values, Secrets, options, notes."""

import base64
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from modelwright import __version__
from modelwright.api.kinds import KINDS
from modelwright.api.schema import S3Uri
from modelwright.api.serve import METRICS_PATH
from modelwright.kube.cache import DEAF_AFTER
from modelwright.kube.health import STANDSTILL_SECONDS
from modelwright.kube.rollcall import NOT_CALLED_AFTER
from modelwright.plan.serving_objects import DEPLOYMENT_LABEL
from tests.unit.chart.conftest import CHART, NAMESPACE, Helm, HelmError

ROOT = Path(__file__).parents[3]
SCRAPED_EVERY = 30
"""Seconds."""
CREDENTIALS = {"accessKeyId": "AKIAEXAMPLE", "secretAccessKey": "top-secret"}


def kinds(documents: list[dict[str, Any]]) -> set[str]:
    return {document["kind"] for document in documents}


def values_paths(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the path of every value that is not a group of values."""
    paths = []
    for name, value in values.items():
        deeper = isinstance(value, dict) and value and name != "resources"
        paths += values_paths(value, f"{prefix}{name}.") if deeper else [prefix + name]
    return paths


def test_helm_lint_has_nothing_to_say(helm: Helm) -> None:
    assert "[WARNING]" not in helm.run("lint", str(CHART), "--strict")


def test_the_definitions_are_those_of_the_repository(helm: Helm) -> None:
    shipped = {
        document["metadata"]["name"]: document["spec"]
        for path in (ROOT / "crds").glob("*.yaml")
        for document in [yaml.safe_load(path.read_text())]
    }
    documents = helm.template(crds={"enabled": True})
    rendered = [document for document in documents if document["kind"] == "CustomResourceDefinition"]
    assert {document["metadata"]["name"]: document["spec"] for document in rendered} == shipped
    assert {document["metadata"]["annotations"]["helm.sh/resource-policy"] for document in rendered} == {"keep"}


def test_the_definitions_may_go_with_the_chart_or_come_from_elsewhere(helm: Helm) -> None:
    definitions = [document for document in helm.template(crds={"keep": False}) if "Custom" in document["kind"]]
    assert len(definitions) == len(KINDS)
    assert not any("annotations" in document["metadata"] for document in definitions)
    assert "CustomResourceDefinition" not in kinds(helm.template(crds={"enabled": False}))


def test_the_chart_has_the_version_of_the_software() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {chart["version"], chart["appVersion"], project["version"]} == {__version__}
    listed = yaml.safe_load(chart["annotations"]["artifacthub.io/crds"])
    assert [entry["kind"] for entry in listed] == [kind.kind for kind in KINDS]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"storge": {"uri": "s3://models"}}, "additional properties 'storge' not allowed"),
        ({"storage": {"url": "s3://models"}}, "additional properties 'url' not allowed"),
        ({"replicas": "two"}, "at '/replicas': got string, want integer"),
        ({"replicas": 9}, "at '/replicas': maximum"),
        ({"storage": {"uri": "models"}}, "at '/storage/uri': 'models' does not match pattern"),
        ({"storage": {"endpoint": "minio:9000"}}, "at '/storage/endpoint'"),
        ({"storage": {"credentials": {"accessKeyId": "A"}}}, "at '/storage/credentials/secretAccessKey'"),
        ({"log": {"level": "LOUD"}}, "value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ({"gangScheduling": "Always"}, "at '/gangScheduling': value must be one of 'Auto', 'Disabled'"),
        ({"image": {"digest": "sha256:12"}}, "at '/image/digest'"),
        ({"watchNamespaces": ["Team A"]}, "at '/watchNamespaces/0'"),
        ({"extraEnv": [{"name": "MODELWRIGHT_STORAGE_URI", "value": "x"}]}, "at '/extraEnv/0/name'"),
        ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "at '/metrics/serviceMonitor/interval'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(helm: Helm, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HelmError, match=re.escape(sentence)):
        helm.template(**values)


def test_every_value_is_in_the_schema_and_in_the_readme() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    readme = (CHART / "README.md").read_text()
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path in values_paths(values):
        node = schema
        for step in path.split("."):
            node = node["properties"][step]
        assert f"| `{path}` |" in readme, f"charts/modelwright/README.md does not explain {path}"


def test_the_default_storage_is_what_a_resource_may_name_or_empty() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    allowed = TypeAdapter(S3Uri).json_schema()["pattern"]
    assert schema["properties"]["storage"]["properties"]["uri"]["pattern"] == f"^({allowed[1:-1]})?$"


def test_the_alert_token_is_long_random_and_mounted_as_a_file(helm: Helm) -> None:
    first, second = (helm.one("Secret", "modelwright-operator-alerts") for _ in range(2))
    token = base64.b64decode(first["data"]["token"]).decode()
    assert re.fullmatch(r"[A-Za-z0-9]{48}", token)
    assert first["data"] != second["data"]
    (volume,) = (v for v in helm.one("Deployment")["spec"]["template"]["spec"]["volumes"] if v["name"] == "alerts")
    assert volume["secret"]["secretName"] == first["metadata"]["name"]


def test_a_token_of_the_users_own_is_used_and_none_is_made(helm: Helm) -> None:
    documents = helm.template(alerts={"tokenSecretName": "mine"})
    assert "Secret" not in kinds(documents)
    (deployment,) = (document for document in documents if document["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"] == "mine"


@pytest.mark.parametrize(
    ("storage", "name", "namespaces"),
    [
        ({}, "modelwright-storage", [NAMESPACE]),
        ({"namespaces": ["team-a", "team-b"]}, "modelwright-storage", ["team-a", "team-b"]),
        ({"secretName": "s3", "namespaces": ["team-a"]}, "s3", ["team-a"]),
    ],
)
def test_credentials_become_a_secret_in_the_namespaces_that_are_named_and_no_other(
    helm: Helm, storage: dict[str, Any], name: str, namespaces: list[str]
) -> None:
    documents = helm.template(storage={"credentials": CREDENTIALS, **storage})
    made = [document for document in documents if document["kind"] == "Secret" and document["metadata"]["name"] == name]
    assert [document["metadata"]["namespace"] for document in made] == namespaces
    for document in made:
        decoded = {key: base64.b64decode(value).decode() for key, value in document["data"].items()}
        assert decoded == {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "top-secret"}


def test_a_secret_that_exists_is_named_and_not_made(helm: Helm) -> None:
    documents = helm.template(storage={"secretName": "s3"})
    assert [document["metadata"]["name"] for document in documents if document["kind"] == "Secret"] == [
        "modelwright-operator-alerts"
    ]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"podDisruptionBudget": {"enabled": True}}, "PodDisruptionBudget"),
        ({"networkPolicy": {"enabled": True}}, "NetworkPolicy"),
        ({"metrics": {"serviceMonitor": {"enabled": True}}}, "ServiceMonitor"),
        ({"metrics": {"podMonitor": {"enabled": True}}}, "PodMonitor"),
        ({"metrics": {"prometheusRule": {"enabled": True}}}, "PrometheusRule"),
    ],
)
def test_what_a_cluster_may_lack_is_made_only_when_asked_for(helm: Helm, values: dict[str, Any], kind: str) -> None:
    assert kind not in kinds(helm.template())
    assert kind in kinds(helm.template(**values))


def test_what_selects_the_operators_pods_selects_them(helm: Helm) -> None:
    options = {"podDisruptionBudget": {"enabled": True}, "networkPolicy": {"enabled": True}}
    documents = {document["kind"]: document for document in helm.template(**options)}
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    budget, policy = documents["PodDisruptionBudget"]["spec"], documents["NetworkPolicy"]["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_servers_are_scraped_where_the_operator_works_under_the_name_of_their_deployment(helm: Helm) -> None:
    def monitor(**values: Any) -> dict[str, Any]:
        spec: dict[str, Any] = helm.one("PodMonitor", metrics={"podMonitor": {"enabled": True}}, **values)["spec"]
        return spec

    assert monitor()["namespaceSelector"] == {"any": True}
    assert monitor(watchNamespaces=["team-a"])["namespaceSelector"] == {"matchNames": ["team-a"]}
    spec = monitor()
    assert spec["selector"] == {"matchExpressions": [{"key": DEPLOYMENT_LABEL, "operator": "Exists"}]}
    (endpoint,) = spec["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", METRICS_PATH)
    assert endpoint["relabelings"] == [
        {
            "sourceLabels": [f"__meta_kubernetes_pod_label_{re.sub('[^a-z]', '_', DEPLOYMENT_LABEL)}"],
            "targetLabel": "deployment",
        }
    ]


def test_every_alert_says_how_bad_it_is_and_what_to_do(helm: Helm) -> None:
    rule = helm.one("PrometheusRule", metrics={"prometheusRule": {"enabled": True, "labels": {"release": "p"}}})
    assert rule["metadata"]["labels"]["release"] == "p"
    alerts = [entry for group in rule["spec"]["groups"] for entry in group["rules"] if "alert" in entry]
    assert "ModelInputDrift" in {alert["alert"] for alert in alerts}
    for alert in alerts:
        assert alert["labels"]["severity"] in ("info", "warning", "critical")
        assert set(alert["annotations"]) == {"summary", "description"}


@pytest.mark.parametrize(
    ("name", "metric", "limit"),
    [
        ("ModelwrightWatchIsDeaf", "modelwright_watch_silence_seconds", DEAF_AFTER),
        ("ModelwrightWatchIsDeaf", "modelwright_roll_call_age_seconds", NOT_CALLED_AFTER),
        ("ModelwrightQueueStandsStill", "modelwright_queue_oldest_seconds", STANDSTILL_SECONDS),
    ],
)
def test_what_ends_in_a_restart_is_told_before_that(name: str, metric: str, limit: float) -> None:
    groups = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
    (alert,) = [rule for group in groups for rule in group["rules"] if rule.get("alert") == name]
    threshold = re.search(rf"\({metric}\) > (\d+)", alert["expr"])
    minutes = re.fullmatch(r"(\d)m", alert["for"])
    assert threshold
    assert minutes
    # With the liveness probe's last word all of it begins at 0 again.
    assert float(threshold[1]) + 60 * float(minutes[1]) <= limit - 2 * SCRAPED_EVERY


def test_notes_say_what_comes_next(helm: Helm) -> None:
    notes = helm.notes()
    assert "No default store is set" in notes
    assert f"http://modelwright-operator.{NAMESPACE}.svc:8080/v1/alerts" in notes
    assert "kubectl apply" in notes
    assert "Uninstalling" not in notes


def test_notes_name_the_store_and_warn_of_what_an_uninstallation_deletes(helm: Helm) -> None:
    storage = {"uri": "s3://models/team", "credentials": CREDENTIALS, "namespaces": ["team-a"]}
    notes = helm.notes(storage=storage, crds={"keep": False}, watchNamespaces=["team-a"])
    assert "works in team-a" in notes
    assert "s3://models/team" in notes
    assert "This release made it in: team-a" in notes
    assert "Uninstalling this release deletes the definitions" in notes
    assert "top-secret" not in notes
