"""Kueue for a while, as a pod of the cluster, for the namespaces that carry its label."""

import json
import time
from typing import Any

import yaml

from e2e.cluster import files, pki
from e2e.cluster.addons import Addon, Definitions
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.paths import Layout

LABEL = {"kueue-managed": "true"}
"""On a namespace: what Kueue's webhooks are asked of. Nobody else shall wait for them, or fail where they are away."""
_GROUP = "kueue.x-k8s.io"
_ROUTED_SECONDS, _POLL_SECONDS = 60, 0.5
_DEFINITION = "CustomResourceDefinition"
_SERVICE = "kueue-webhook-service"
_CONFIGURATION = "controller_manager_config.yaml"
_WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


class Kueue(Addon):
    """Its manager and its kinds."""

    title = "Kueue"
    program = tool = "kueue"
    module = "sigs.k8s.io/kueue"
    namespace = "kueue-system"
    deployment = "kueue-controller-manager"
    finalized = tuple(f"{kind}.{_GROUP}" for kind in ("workloads", "localqueues", "clusterqueues", "resourceflavors"))

    def definitions(self, layout: Layout) -> Definitions:
        """Return its kinds, whose versions its webhooks convert."""
        kinds = [entry for entry in self._all(layout) if entry["kind"] == _DEFINITION]
        for conversion in (entry["spec"]["conversion"] for entry in kinds if "conversion" in entry["spec"]):
            conversion["webhook"]["clientConfig"]["caBundle"] = files.embedded(layout.pki / "ca.crt")
        return Definitions("--filename=-", json.dumps({"apiVersion": "v1", "kind": "List", "items": kinds}))

    def manifests(self, layout: Layout, image: str) -> list[dict[str, Any]]:
        """Return what its own manifests say, but for the image, what it asks for, and whom its webhooks are asked of.

        Without its list of who waits: an aggregated API that is away for a moment keeps every namespace from going.
        With a certificate from the first moment: one that it makes itself reaches its pod when the kubelet next looks,
        and it looks for it less often the longer it waits, so that it may take minutes to be ready.
        """
        made = [entry for entry in self._all(layout) if entry["kind"] not in (_DEFINITION, "APIService")]
        container = self.container(made, image)
        container["args"].append("--feature-gates=VisibilityOnDemand=false")
        container["resources"]["requests"] = {"cpu": "50m", "memory": "128Mi"}
        container["readinessProbe"] |= {"initialDelaySeconds": 1, "periodSeconds": 1}
        # Of its metrics, which nobody here reads: it will not start without.
        container["volumeMounts"].append({"name": "cert", "mountPath": "/etc/kueue/metrics/certs", "readOnly": True})
        for webhook in (each for entry in made if entry["kind"] in _WEBHOOKS for each in entry["webhooks"]):
            webhook["namespaceSelector"] = {"matchLabels": LABEL}
            webhook["clientConfig"]["caBundle"] = files.embedded(layout.pki / "ca.crt")
        for entry in made:
            if entry["kind"] == "Secret":
                entry |= _certificate(layout)
            elif _CONFIGURATION in entry.get("data", {}):
                own = yaml.safe_load(entry["data"][_CONFIGURATION]) | {"internalCertManagement": {"enable": False}}
                entry["data"][_CONFIGURATION] = json.dumps(own)
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

    def _all(self, layout: Layout) -> list[dict[str, Any]]:
        said = Kubectl(layout.kubeconfig).run("kustomize", str(self.source() / "config" / "default"))
        return [entry for entry in yaml.load_all(said, Loader=yaml.CSafeLoader) if entry]


def _certificate(layout: Layout) -> dict[str, Any]:
    """Return what its Secret holds."""
    identity = pki.webhook(_SERVICE, Kueue.namespace)
    if not (layout.pki / f"{identity.file}.crt").exists():
        pki.join(layout.pki, identity)
    parts = {f"tls.{part}": files.embedded(layout.pki / f"{identity.file}.{part}") for part in ("crt", "key")}
    return {"type": "kubernetes.io/tls", "data": parts}
