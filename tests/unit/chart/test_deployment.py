"""The operator's Deployment: what it is told, and what it may not do."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelwright.kube import settings
from modelwright.plan.quotas import Quota
from tests.unit.chart.conftest import NAMESPACE, Helm, HelmError


def pod(helm: Helm, **values: Any) -> dict[str, Any]:
    spec: dict[str, Any] = helm.one("Deployment", **values)["spec"]["template"]["spec"]
    return spec


def container(helm: Helm, **values: Any) -> dict[str, Any]:
    (only,) = pod(helm, **values)["containers"]
    return only


def told(helm: Helm, **values: Any) -> settings.Process:
    """Return the settings that the operator reads from the environment that the chart gives it."""
    downward = {"status.podIP": "10.1.2.3", "metadata.name": "operator-0", "metadata.namespace": NAMESPACE}
    entries = container(helm, **values)["env"]
    return settings.read(
        {
            entry["name"]: entry["value"] if "value" in entry else downward[entry["valueFrom"]["fieldRef"]["fieldPath"]]
            for entry in entries
        }
    )


def test_it_meets_the_restricted_pod_security_standard(helm: Helm) -> None:
    assert pod(helm)["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(helm)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(key for key in volume if key != "name") for volume in pod(helm)["volumes"]} == {"secret", "emptyDir"}


def test_the_operator_understands_what_the_chart_tells_it_by_default(helm: Helm) -> None:
    process = told(helm)
    assert process.plans.runtime_image == "modelwright/runtime:0.1.0"
    assert process.plans.server_image == "modelwright/server:0.1.0"
    assert process.plans.report_url == f"http://modelwright-operator.{NAMESPACE}.svc:8080"
    assert process.plans.storage.uri is None
    assert process.namespaces == ()
    assert (process.pod_name, process.pod_ip, process.pod_namespace) == ("operator-0", "10.1.2.3", NAMESPACE)
    assert (process.http_port, process.concurrency, process.lease_name) == (8080, 16, "modelwright")
    assert (process.log_format, process.log_level) == ("json", "INFO")
    assert process.alert_token_file == Path("/etc/modelwright/alerts/token")
    assert process.gang_scheduling


def test_the_operator_understands_every_value(helm: Helm) -> None:
    process = told(
        helm,
        storage={
            "uri": "s3://models/team",
            "endpoint": "https://minio.example.com",
            "region": "eu-1",
            "secretName": "s3",
        },
        watchNamespaces=["team-a", "team-b"],
        concurrency=4,
        leaseName="other",
        log={"format": "text", "level": "DEBUG"},
        service={"port": 80},
        gangScheduling="Disabled",
    )
    assert not process.gang_scheduling
    assert process.plans.storage.document() == {
        "uri": "s3://models/team",
        "endpoint": "https://minio.example.com",
        "region": "eu-1",
        "secretName": "s3",
    }
    assert process.namespaces == ("team-a", "team-b")
    assert (process.concurrency, process.lease_name) == (4, "other")
    assert (process.log_format, process.log_level) == ("text", "DEBUG")
    assert process.plans.report_url == f"http://modelwright-operator.{NAMESPACE}.svc:80"


def test_it_is_probed_where_it_listens(helm: Helm) -> None:
    probed = container(helm)
    assert probed["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    paths = {name: probed[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": {"path": "/healthz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "modelwright/operator:0.1.0"),
        (
            {"repository": "localhost:5000/modelwright/operator", "tag": "abc"},
            "localhost:5000/modelwright/operator:abc",
        ),
        ({"digest": f"sha256:{'0' * 64}", "tag": "abc"}, f"modelwright/operator@sha256:{'0' * 64}"),
    ],
)
def test_an_image_is_named_by_its_digest_its_tag_or_the_version(
    helm: Helm, image: dict[str, str], reference: str
) -> None:
    assert container(helm, image=image)["image"] == reference


def test_no_secret_stands_in_the_environment(helm: Helm) -> None:
    values = {"storage": {"credentials": {"accessKeyId": "AKIAEXAMPLE", "secretAccessKey": "do-not-show"}}}
    deployment = str(helm.one("Deployment", **values))
    assert "AKIAEXAMPLE" not in deployment
    assert "do-not-show" not in deployment


def test_where_it_runs_is_up_to_the_user(helm: Helm) -> None:
    toleration = {"key": "infra", "operator": "Exists"}
    affinity = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    spec = pod(
        helm,
        nodeSelector={"pool": "infra"},
        tolerations=[toleration],
        affinity=affinity,
        priorityClassName="system-cluster-critical",
        imagePullSecrets=[{"name": "registry"}],
        extraEnv=[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    )
    assert (spec["nodeSelector"], spec["tolerations"], spec["affinity"]) == ({"pool": "infra"}, [toleration], affinity)
    assert (spec["priorityClassName"], spec["imagePullSecrets"]) == ("system-cluster-critical", [{"name": "registry"}])
    assert spec["containers"][0]["env"][-1] == {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}


def test_the_service_leads_to_its_pods(helm: Helm) -> None:
    service, deployment = helm.one("Service"), helm.one("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["metadata"]["name"] == "modelwright-operator"
    assert service["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("modelwright", {}, "modelwright-operator"),
        ("ml", {}, "ml-modelwright-operator"),
        ("ml", {"nameOverride": "mw"}, "ml-mw-operator"),
        ("ml", {"fullnameOverride": "loop"}, "loop"),
        ("r" * 53, {}, f"{'r' * 53}-operator"),
    ],
)
def test_names_follow_the_release_and_fit(helm: Helm, release: str, values: dict[str, Any], name: str) -> None:
    names = {
        document["metadata"]["name"]
        for document in helm.template(release, **values)
        if document["kind"] in ("Deployment", "Service", "ServiceAccount")
    }
    assert names == {name}
    assert len(name) <= 63


def test_quotas_reach_the_operator_as_they_are_written(helm: Helm) -> None:
    values = [{"name": "gpus", "namespaces": ["a", "b"], "resources": {"nvidia.com/gpu": 8, "memory": "1Ti"}}]
    (quota,) = told(helm, quotas=values).plans.quotas
    assert quota == Quota("gpus", {"nvidia.com/gpu": Decimal(8), "memory": Decimal(1024**4)}, frozenset({"a", "b"}))
    assert told(helm).plans.quotas == ()


@pytest.mark.parametrize(
    "wrong",
    [{"name": "A b", "resources": {"cpu": 1}}, {"name": "a"}, {"name": "a", "resources": {"cpu": "much"}}],
)
def test_a_quota_that_means_nothing_is_refused(helm: Helm, wrong: dict[str, Any]) -> None:
    with pytest.raises(HelmError, match="quotas"):
        helm.template(quotas=[wrong])
