"""Kueue for a while, as a pod of the cluster, for the namespaces that carry its label."""

import json
import time
from typing import Any

import yaml

from e2e.cluster.addons import Addon, Definitions
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.paths import Layout

LABEL = {"kueue-managed": "true"}
"""On a namespace: what Kueue's webhooks are asked of. Nobody else shall wait for them, or fail where they are away."""
_GROUP = "kueue.x-k8s.io"
_ROUTED_SECONDS, _POLL_SECONDS = 60, 0.5
_DEFINITION = "CustomResourceDefinition"
_WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


class Kueue(Addon):
    """Its manager and its kinds."""

    title = "Kueue"
    program = tool = "kueue"
    module = "sigs.k8s.io/kueue"
    namespace = "kueue-system"
    deployment = "kueue-controller-manager"
    finalized = tuple(f"{kind}.{_GROUP}" for kind in ("workloads", "localqueues", "clusterqueues", "resourceflavors"))

    def definitions(self, kubectl: Kubectl) -> Definitions:
        """Return its kinds, whose versions its webhooks convert."""
        kinds = [entry for entry in self._all(kubectl) if entry["kind"] == _DEFINITION]
        return Definitions("--filename=-", json.dumps({"apiVersion": "v1", "kind": "List", "items": kinds}))

    def manifests(self, kubectl: Kubectl, image: str) -> list[dict[str, Any]]:
        """Return what its own manifests say, but for the image, what it asks for, and whom its webhooks are asked of.

        Without its list of who waits: an aggregated API that is away for a moment keeps every namespace from going.
        """
        made = [entry for entry in self._all(kubectl) if entry["kind"] not in (_DEFINITION, "APIService")]
        container = self.container(made, image)
        container["args"].append("--feature-gates=VisibilityOnDemand=false")
        container["resources"]["requests"] = {"cpu": "50m", "memory": "128Mi"}
        container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
        for webhook in (each for entry in made if entry["kind"] in _WEBHOOKS for each in entry["webhooks"]):
            webhook["namespaceSelector"] = {"matchLabels": LABEL}
        return sorted(made, key=lambda entry: entry["kind"] != "Namespace")

    def await_ready(self, layout: Layout) -> None:
        """Return when it runs, and its webhooks are reached: the node routes to a pod that is ready a moment later."""
        super().await_ready(layout)
        kubectl, deadline = Kubectl(layout.kubeconfig), time.monotonic() + _ROUTED_SECONDS
        probe = {"apiVersion": f"{_GROUP}/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "probe"}, "spec": {}}
        words = ("create", "--dry-run=server", "--filename=-")
        while (said := kubectl.attempt(*words, text=json.dumps(probe))).returncode != 0:
            if time.monotonic() > deadline:
                raise ClusterError(f"Kueue's webhooks are not reached: {said.stderr.strip()}")
            time.sleep(_POLL_SECONDS)

    def _all(self, kubectl: Kubectl) -> list[dict[str, Any]]:
        said = kubectl.run("kustomize", str(self.source() / "config" / "default"))
        return [entry for entry in yaml.load_all(said, Loader=yaml.CSafeLoader) if entry]
