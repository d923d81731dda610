"""Pulling an image before anybody waits for it."""

import json
import time

from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.paths import Layout

_NAMESPACE = "kube-system"
_SECONDS = 1800


def through_pod(layout: Layout, reference: str) -> None:
    """Run `true` in an image: the kubelet pulls one image at a time, and keeps no compressed copy.

    Several pods that ask for one image of gigabytes at once would unpack it several times.
    """
    kubectl = Kubectl(layout.kubeconfig)
    created = kubectl.run("create", "--filename=-", "--output=name", text=json.dumps(_pod(reference))).strip()
    deadline = time.monotonic() + _SECONDS
    try:
        while (phase := _phase(kubectl, created)) not in {"Succeeded", "Failed"}:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{reference} was not pulled in {_SECONDS} seconds; see `kubectl events -n {_NAMESPACE}`"
                )
            time.sleep(0.5)
        if phase == "Failed":
            raise ClusterError(f"{reference} was pulled, but cannot even run `true`")
    finally:
        kubectl.attempt("delete", created, f"--namespace={_NAMESPACE}", "--now", "--wait=false")


def _phase(kubectl: Kubectl, name: str) -> str:
    return kubectl.run("get", name, f"--namespace={_NAMESPACE}", "--output=jsonpath={.status.phase}")


def _pod(reference: str) -> dict[str, object]:
    container = {"name": "pull", "image": reference, "command": ["true"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "pull-", "namespace": _NAMESPACE},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]},
    }
