"""Modelwright on a cluster, as a platform team would put it there: by Helm, with a default store."""

import secrets
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from e2e.cluster import paths, shell
from e2e.cluster.target import Target
from e2e.support.resources import Object, Resources, manifest
from e2e.support.store import Bucket

OPERATOR_NAMESPACE = "modelwright-system"
DEMO_NAMESPACE = "flights"
MONITORING_NAMESPACE = "monitoring"
_WITH_STORAGE = [OPERATOR_NAMESPACE, DEMO_NAMESPACE]
"""The namespaces to which the chart gives the key of the store: the same for demo and scenarios, since an upgrade takes
the key from every namespace that it does not name any more."""
STORAGE_SECRET = "modelwright-storage"  # noqa: S105 (a name)
ALERT_SECRET = "modelwright-alerts"  # noqa: S105 (a name)
_RELEASE = "modelwright"
_MONITORING = paths.REPOSITORY / "e2e" / "monitoring" / "manifests.yaml"


@dataclass(frozen=True)
class Installation:
    """Modelwright and its store, on one cluster."""

    target: Target
    prefix: str
    """The part of the bucket that is ours."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Values of the chart beside those that every installation here has."""

    @property
    def bucket(self) -> Bucket:
        """The default store, as this machine reaches it."""
        s3 = self.target.s3
        return Bucket(f"s3://{s3.bucket}/{self.prefix}", s3.host_endpoint, s3.access_key, s3.secret_key)

    def install(self, **overrides: Any) -> None:
        """Install or upgrade the chart, and wait until it is ready; missing namespaces are made."""
        self._ensure_namespaces(_WITH_STORAGE)
        self._ensure_alert_token()
        values = {**self._values(), **self.more, **overrides}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values, file)
            file.flush()
            chart = str(paths.REPOSITORY / "charts" / "modelwright")
            where = [f"--namespace={OPERATOR_NAMESPACE}", f"--values={file.name}", "--wait", "--timeout=3m"]
            shell.run([*self.target.helm, "upgrade", "--install", _RELEASE, chart, *where])

    def discard_namespaces(self, names: Iterable[str]) -> None:
        """Begin to delete what an earlier run may have left, without waiting for it."""
        self.target.kubectl.run("delete", "namespace", *names, "--ignore-not-found", "--wait=false")

    def fresh_namespace(self, name: str) -> Resources:
        """Return an empty namespace of this name; what an earlier run left there is deleted."""
        kubectl = self.target.kubectl
        kubectl.run("delete", "namespace", name, "--ignore-not-found", "--wait", "--timeout=120s")
        self._ensure_namespaces([name])
        return Resources(kubectl, name)

    def open_storage(self, namespace: str) -> None:
        """Put the key of the default store into a namespace, as whoever owns the namespace would."""
        s3 = self.target.s3
        keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": STORAGE_SECRET}, "stringData": keys}
        Resources(self.target.kubectl, namespace).apply(secret)

    def install_monitoring(self, namespace: str, deployment: str) -> None:
        """Run a Prometheus that watches one ModelDeployment, and an Alertmanager; wait until they are ready."""
        self._ensure_namespaces([MONITORING_NAMESPACE])
        resources = Resources(self.target.kubectl, MONITORING_NAMESPACE)
        resources.apply(
            *manifest(
                _MONITORING,
                {
                    "${DEPLOYMENT}": deployment,
                    "${DEPLOYMENT_NAMESPACE}": namespace,
                    "${OPERATOR_NAMESPACE}": OPERATOR_NAMESPACE,
                    "${IMAGE}": self.target.images["monitoring"],
                    "${ALERT_TOKEN}": self.alert_token(),
                },
            )
        )
        for name in ("prometheus", "alertmanager"):
            self.target.kubectl.run(
                "rollout", "status", f"deployment/{name}", f"--namespace={MONITORING_NAMESPACE}", "--timeout=180s"
            )

    def _values(self) -> dict[str, Any]:
        s3, images = self.target.s3, self.target.images
        return {
            "image": _image(images["operator"]),
            "runtimeImage": _image(images["runtime"]),
            "serverImage": _image(images["server"]),
            "storage": {
                "uri": self.bucket.uri,
                "endpoint": s3.endpoint,
                "region": s3.region,
                "secretName": STORAGE_SECRET,
                "credentials": {"accessKeyId": s3.access_key, "secretAccessKey": s3.secret_key},
                "namespaces": _WITH_STORAGE,
            },
            "alerts": {"tokenSecretName": ALERT_SECRET},
        }

    def _ensure_namespaces(self, names: list[str]) -> None:
        self.target.kubectl.apply(
            [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]
        )

    def _ensure_alert_token(self) -> None:
        resources = Resources(self.target.kubectl, OPERATOR_NAMESPACE)
        if resources.find("secret", ALERT_SECRET) is None:
            resources.apply(_alert_secret(secrets.token_urlsafe(24)))

    def alert_token(self) -> str:
        """Return the token that Alertmanager shows."""
        found = self.target.kubectl.run(
            "get",
            "secret",
            ALERT_SECRET,
            f"--namespace={OPERATOR_NAMESPACE}",
            "--output=go-template={{.data.token | base64decode}}",
        )
        return found.strip()


def _image(reference: str) -> dict[str, str]:
    repository, _, tag = reference.rpartition(":")
    return {"repository": repository, "tag": tag}


def _alert_secret(token: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": ALERT_SECRET}, "stringData": {"token": token}}
