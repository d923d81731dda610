"""The last check of ``up``: a pod runs, resolves names and reaches Services."""

import json
import time

from e2e.cluster import runtime
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.settings import CLUSTER_DOMAIN, NODE_NAME, S3_NAMESPACE, S3_PORT, S3_SERVICE

_POD = "cluster-check"
_NAMESPACE = "kube-system"
_ENDED = ("Succeeded", "Failed")


def await_node(kubectl: Kubectl, name: str = NODE_NAME, seconds: float = 60) -> None:
    """Wait until a node takes pods and the controllers have made the default service account."""
    wait = f"--timeout={seconds:.0f}s"
    _retry(kubectl, seconds, "get", "node", name)
    kubectl.run("wait", f"node/{name}", "--for=condition=Ready", wait)
    _retry(kubectl, seconds, "get", "serviceaccount", "default", f"--namespace={_NAMESPACE}")


def node_is_ready(kubectl: Kubectl) -> bool:
    """Whether the API server answers and says that the node is Ready."""
    path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    return kubectl.attempt("get", "node", NODE_NAME, f"--output={path}").stdout == "True"


def check(kubectl: Kubectl, seconds: float = 60) -> None:
    """Run a pod that dials the API server and the S3 server by name."""
    kubectl.attempt("delete", "pod", _POD, f"--namespace={_NAMESPACE}", "--ignore-not-found", "--now")
    kubectl.run("create", "--filename=-", text=json.dumps(_pod()))
    deadline = time.monotonic() + seconds
    while (phase := _phase(kubectl)) not in _ENDED and time.monotonic() < deadline:
        time.sleep(0.2)
    if phase != "Succeeded":
        logs = kubectl.attempt("logs", _POD, f"--namespace={_NAMESPACE}").stdout
        events = kubectl.attempt("events", f"--namespace={_NAMESPACE}", f"--for=pod/{_POD}").stdout
        raise ClusterError(f"the check pod is {phase or 'not there'}, not Succeeded:\n{logs}{events}")
    kubectl.run("delete", "pod", _POD, f"--namespace={_NAMESPACE}", "--now", "--wait=false")


def _phase(kubectl: Kubectl) -> str:
    return kubectl.run("get", "pod", _POD, f"--namespace={_NAMESPACE}", "--output=jsonpath={.status.phase}")


def _retry(kubectl: Kubectl, seconds: float, *words: str) -> None:
    deadline = time.monotonic() + seconds
    while kubectl.attempt(*words).returncode != 0:
        if time.monotonic() > deadline:
            raise ClusterError(f"`kubectl {' '.join(words)}` finds nothing after {seconds:.0f} seconds")
        time.sleep(0.2)


def _pod() -> dict[str, object]:
    addresses = [
        f"kubernetes.default.svc.{CLUSTER_DOMAIN}:443",
        f"{S3_SERVICE}.{S3_NAMESPACE}.svc.{CLUSTER_DOMAIN}:{S3_PORT}",
    ]
    container = {
        "name": "dial",
        "image": runtime.pause_image(),
        "imagePullPolicy": "Never",
        "args": ["dial", *addresses],
    }
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _POD, "namespace": _NAMESPACE},
        "spec": spec,
    }
