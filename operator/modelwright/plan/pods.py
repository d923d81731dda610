"""What all children and all pods have in common, so that no planner says it twice."""

from collections.abc import Mapping
from typing import Any

from modelwright.api.common import PodSettings
from modelwright.plan.actions import Object
from modelwright.plan.observed import MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Keys of a storage Secret, and the environment variables that boto3 reads them from."""

GRACE = 30
"""Seconds that Kubernetes gives a pod to leave where nobody says."""


def labels(owner: Object) -> dict[str, str]:
    """Return the labels that every child of an object, and every pod of a child, carries."""
    return {MANAGED_BY_LABEL: MANAGED_BY, OWNER_UID_LABEL: owner["metadata"]["uid"]}


def metadata(owner: Object, name: str, extra_labels: Mapping[str, str] | None = None) -> Object:
    """Return the metadata of a child: namespace, labels and the controller reference that lets it go with its owner."""
    meta = owner["metadata"]
    return {
        "name": name,
        "namespace": meta["namespace"],
        "labels": {**labels(owner), **(extra_labels or {})},
        "ownerReferences": [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": meta["name"],
                "uid": meta["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def env(variables: Mapping[str, str | None]) -> list[Object]:
    """Return environment entries for plain values; None leaves a variable out."""
    return [{"name": name, "value": value} for name, value in variables.items() if value is not None]


def field_env(name: str, path: str) -> Object:
    """Return the environment entry for a field of the pod itself, such as `status.podIP`."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def cpus_env(name: str) -> Object:
    """Return the environment entry for the CPU limit of the container, in whole CPUs.

    Kubernetes fills it in, so that a limit counts that only a LimitRange or a webhook has put there. Without any limit
    it is what the node has to give.
    """
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}}}


def storage_env(secret_name: str | None) -> list[Object]:
    """Return the environment entries that open the storage; empty where pods use an identity of their own."""
    if secret_name is None:
        return []
    return [{"name": key, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": key}}} for key in CREDENTIALS]


def security_context(*, read_only: bool = True) -> Object:
    """Return a container's security context, as the Pod Security Standard "restricted" asks.

    `read_only` is for programs that are known to write only to mounted volumes; a user's own may write anywhere.
    """
    context: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    if read_only:
        context["readOnlyRootFilesystem"] = True
    return context


def container_settings(settings: PodSettings, image: str) -> Object:
    """Return the part of a container that a user's pod settings decide; `image` is the default."""
    chosen = settings.image_pull_policy
    return {
        "image": settings.image or image,
        **({"imagePullPolicy": chosen.value} if chosen else {}),
        "resources": settings.resources.document(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def pod_settings(settings: PodSettings) -> Object:
    """Return what a user's settings decide in a pod spec, and what every pod of ours has: no token, no root."""
    optional = {
        "nodeSelector": dict(settings.node_selector),
        "tolerations": [entry.document() for entry in settings.tolerations],
        "imagePullSecrets": [entry.document() for entry in settings.image_pull_secrets],
        "priorityClassName": settings.priority_class_name,
        "serviceAccountName": settings.service_account_name,
    }
    return {
        **{key: value for key, value in optional.items() if value},
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
