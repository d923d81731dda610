"""Kubeconfig files with everything inside, so that a copied file still works."""

from pathlib import Path
from typing import Any

from e2e.cluster import files
from e2e.cluster.settings import CLUSTER_NAME


def write(path: Path, *, server: str, pki: Path, identity: str) -> Path:
    """Write the kubeconfig of one identity; JSON is YAML, and needs no second library to read."""
    user = {
        "client-certificate-data": files.embedded(pki / f"{identity}.crt"),
        "client-key-data": files.embedded(pki / f"{identity}.key"),
    }
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CLUSTER_NAME,
        "clusters": [
            {
                "name": CLUSTER_NAME,
                "cluster": {"server": server, "certificate-authority-data": files.embedded(pki / "ca.crt")},
            }
        ],
        "users": [{"name": identity, "user": user}],
        "contexts": [{"name": CLUSTER_NAME, "context": {"cluster": CLUSTER_NAME, "user": identity}}],
    }
    return files.write_json(path, content, mode=0o600)
