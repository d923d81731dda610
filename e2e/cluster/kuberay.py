"""KubeRay for a while, as a pod of the cluster.

Tests on an API server without nodes take only its kinds, for which nothing is built.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import files
from e2e.cluster.addons import Addon, Definitions
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.paths import Layout


class KubeRay(Addon):
    """Its operator and its kinds."""

    title = "KubeRay"
    program = deployment = "kuberay-operator"
    tool = namespace = "kuberay"
    module = "github.com/ray-project/kuberay/ray-operator"
    finalized = ("rayjobs.ray.io",)

    def folder(self) -> Path:
        """The folder with the CustomResourceDefinitions."""
        return self.source() / "config" / "crd" / "bases"

    def definitions(self, layout: Layout) -> Definitions:
        """Return the folder: they are megabytes, which nobody here has to read."""
        return Definitions(f"--filename={self.folder()}")

    def manifests(self, layout: Layout, image: str) -> list[dict[str, Any]]:
        """Return what its own manifests say, but for the image."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        with tempfile.TemporaryDirectory() as folder:
            parts = [self.source() / "config" / name for name in ("rbac", "manager")]
            bases = [os.path.relpath(part, Path(folder).resolve()) for part in parts]
            files.write_json(Path(folder) / "kustomization.yaml", {"namespace": self.namespace, "resources": bases})
            made = list(yaml.safe_load_all(Kubectl(layout.kubeconfig).run("kustomize", folder)))
        self.container(made, image)
        return [namespace, *made]
