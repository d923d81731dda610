"""What a ModelDeployment is made of: a Deployment for each version, and one Service that names the one that serves."""

import hashlib
import json

from modelwright.api.modeldeployment import ModelDeploymentSpec
from modelwright.api.serve import LIVE_PATH, METRICS_PATH, PORT, READY_PATH, REPLICA_VARIABLE, SERVE_VARIABLE, Serve
from modelwright.api.variables import CPUS_VARIABLE
from modelwright.plan.actions import Object
from modelwright.plan.names import child_name
from modelwright.plan.observed import OWNER_UID_LABEL
from modelwright.plan.pods import (
    container_settings,
    cpus_env,
    env,
    field_env,
    labels,
    metadata,
    pod_settings,
    security_context,
    storage_env,
)
from modelwright.plan.questions import Store
from modelwright.plan.settings import Settings

MODEL_LABEL = "modelwright.dev/model"
VERSION_LABEL = "modelwright.dev/version"
DEPLOYMENT_LABEL = "modelwright.dev/deployment"
TEMPLATE_LABEL = "modelwright.dev/template"
"""On pods: a digest of the template that they were made from, which tells the pods of a change from those before it."""
APPLIED_ANNOTATION = "modelwright.dev/applied"
"""A digest of what was applied, so that an object that is as wanted is not written again."""
SELECTED_ANNOTATION = "modelwright.dev/selected-since"
"""On the Service: since when it names its version. It is written with the selector, so no crash can part the two."""
_GRACE_SECONDS = 30
"""On top of the drain: for answers in flight and the last counts."""


def service_name(owner: Object) -> str:
    """Return the name of the Service, and so of the address."""
    return child_name(owner["metadata"]["name"], "")


def deployment_name(owner: Object, version: int) -> str:
    """Return the name of the Deployment of one version."""
    return child_name(owner["metadata"]["name"], f"v{version}")


def url(owner: Object) -> str:
    """Return the address inside the cluster."""
    return f"http://{service_name(owner)}.{owner['metadata']['namespace']}.svc.cluster.local"


def service(owner: Object, version: int, since: str | None = None) -> Object:
    """Return the Service that sends everything to one version; `since` when, where that is known."""
    made = _digested(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(owner, service_name(owner), {DEPLOYMENT_LABEL: service_name(owner)}),
            "spec": {
                "type": "ClusterIP",
                "selector": _selector(owner, version),
                "ports": [{"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}],
            },
        }
    )
    if since is not None:
        made["metadata"]["annotations"][SELECTED_ANNOTATION] = since
    return made


def deployment(owner: Object, spec: ModelDeploymentSpec, version: int, store: Store, settings: Settings) -> Object:
    """Return the servers of one version. A change of the same version takes no server away before another is ready."""
    extra = {
        MODEL_LABEL: spec.model.name,
        VERSION_LABEL: str(version),
        DEPLOYMENT_LABEL: service_name(owner),
    }
    pod = _pod(owner, spec, version, store, settings)
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": METRICS_PATH}
    pod_labels = {**labels(owner), **extra, TEMPLATE_LABEL: _digest(pod)}
    return _digested(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(owner, deployment_name(owner, version), extra),
            "spec": {
                "replicas": spec.replicas,
                "progressDeadlineSeconds": spec.rollout.progress_deadline_seconds,
                "revisionHistoryLimit": 1,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "selector": {"matchLabels": _selector(owner, version)},
                "template": {
                    "metadata": {"labels": pod_labels, "annotations": annotations},
                    "spec": pod,
                },
            },
        }
    )


def as_wanted(wanted: Object, found: Object | None) -> bool:
    """Tell whether an object is there as it was last applied, and has not been scaled or pointed elsewhere since."""
    if found is None:
        return False
    digest = (found["metadata"].get("annotations") or {}).get(APPLIED_ANNOTATION)
    return bool(digest == wanted["metadata"]["annotations"][APPLIED_ANNOTATION]) and all(
        found["spec"].get(field) == wanted["spec"].get(field) for field in ("replicas", "selector")
    )


def version_of(selector: Object) -> int | None:
    """Return the version that labels or a selector name."""
    text = str(selector.get(VERSION_LABEL, ""))
    return int(text) if text.isdigit() else None


def _selector(owner: Object, version: int) -> Object:
    return {OWNER_UID_LABEL: owner["metadata"]["uid"], VERSION_LABEL: str(version)}


def _pod(owner: Object, spec: ModelDeploymentSpec, version: int, store: Store, settings: Settings) -> Object:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector(owner, version)},
    }
    return {
        **pod_settings(spec.server),
        "terminationGracePeriodSeconds": spec.rollout.drain_seconds + _GRACE_SECONDS,
        "topologySpreadConstraints": [spread],
        "containers": [_container(owner, spec, version, store, settings)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def _container(owner: Object, spec: ModelDeploymentSpec, version: int, store: Store, settings: Settings) -> Object:
    return {
        "name": "server",
        **container_settings(spec.server, settings.server_image),
        "command": ["python", "-m", "modelwright.runtime.serve"],
        "env": [
            # The kubelet reads $(NAME) as a reference and $$ as a dollar sign.
            *env({SERVE_VARIABLE: _told(owner, spec, version, store).replace("$", "$$"), "PYTHONUNBUFFERED": "1"}),
            cpus_env(CPUS_VARIABLE),
            field_env(REPLICA_VARIABLE, "metadata.name"),
            *storage_env(store.secret_name),
        ],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # Loading may take as long as the whole rollout; only then is a server that does not answer a dead one.
        "startupProbe": _probe(READY_PATH, 1, spec.rollout.progress_deadline_seconds),
        "readinessProbe": _probe(READY_PATH, 2, 2),
        "livenessProbe": _probe(LIVE_PATH, 10, 6),
        "securityContext": security_context(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 (the only place that can be written)
    }


def _probe(path: str, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": PORT},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _told(owner: Object, spec: ModelDeploymentSpec, version: int, store: Store) -> str:
    serve = Serve(
        namespace=owner["metadata"]["namespace"],
        deployment=owner["metadata"]["name"],
        model=spec.model.name,
        version=version,
        storage=store.storage,
        monitoring=spec.monitoring,
        drain_seconds=spec.rollout.drain_seconds,
    )
    return serve.model_dump_json(by_alias=True, exclude_none=True)


def _digested(document: Object) -> Object:
    meta = {**document["metadata"], "annotations": {APPLIED_ANNOTATION: _digest(document)}}
    return {**document, "metadata": meta}


def _digest(document: Object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
