"""What the chart renders is taken by a real API server, field by field."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.standalone import find
from tests.integration.crd.conftest import Api
from tests.unit.chart.conftest import CHART, Helm


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(find("helm"), tmp_path_factory.mktemp("helm"))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "replicas": 2,
            "watchNamespaces": ["default", "kube-system"],
            "storage": {
                "uri": "s3://models",
                "credentials": {"accessKeyId": "a", "secretAccessKey": "b"},
                "namespaces": ["default", "kube-system"],
            },
            "podDisruptionBudget": {"enabled": True},
            "networkPolicy": {"enabled": True},
            "podLabels": {"team": "ml"},
            "podAnnotations": {"note": "x"},
            "serviceAccount": {"annotations": {"cloud/role": "x"}},
            "service": {"port": 80, "annotations": {"note": "x"}},
            "nodeSelector": {"pool": "infra"},
            "tolerations": [{"key": "infra", "operator": "Exists"}],
            "priorityClassName": "system-cluster-critical",
            "imagePullSecrets": [{"name": "registry"}],
        },
    ],
    ids=["defaults", "everything"],
)
def test_an_installation_is_accepted_with_strict_validation(
    api: Api, helm: Helm, values: dict[str, Any], tmp_path: Path
) -> None:
    rendered = tmp_path / "chart.yaml"
    rendered.write_text(helm.run("template", "modelwright", str(CHART), "--namespace=default", values=values))
    command = [find("kubectl"), f"--kubeconfig={api.kubeconfig}", "apply", "--server-side", "--force-conflicts"]
    done = subprocess.run(
        [*command, "--dry-run=server", "--validate=strict", f"--filename={rendered}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "deployment.apps/modelwright-operator serverside-applied" in done.stdout
