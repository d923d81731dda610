"""A gang: the headless Service and the Indexed Job of pods that live and die together. For training and tuning."""

from dataclasses import dataclass
from enum import StrEnum

from modelwright.api.checkpoint import KILL_SECONDS, RECIPE_GRACE_SECONDS
from modelwright.api.common import EnvVar
from modelwright.api.run import REPORT_URL_VARIABLE, RUN_VARIABLE, TOKEN_AUDIENCE, TOKEN_FILE, Run, report_path
from modelwright.api.trainingjob import Workers
from modelwright.api.tuningsweep import SweepWorkers
from modelwright.plan.actions import Action, Apply, CreateSecret, Object
from modelwright.plan.launch import Program, has_gpus, ray_command, torch_command
from modelwright.plan.names import child_name, short_hash
from modelwright.plan.observed import ATTEMPT_LABEL
from modelwright.plan.pods import container_settings, env, labels, metadata, pod_settings, security_context, storage_env
from modelwright.plan.settings import Settings

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""On an object of ours: the LocalQueue of Kueue that admits its gangs."""
TOKEN_KEY = "token"  # noqa: S105 (the name of a key)
_HASH = 5
# An Indexed Job names its pods' hosts `<job>-<index>`, and a host name has 63 characters.
_JOB_NAME_LIMIT = 63 - len("-999")


class Launcher(StrEnum):
    """What ties the pods together."""

    TORCH = "torch"
    RAY = "ray"


@dataclass(frozen=True)
class Gang:
    """Everything that one attempt of a job is made of."""

    owner: Object
    """The TrainingJob or TuningSweep, in its JSON form."""
    run: Run
    workers: Workers | SweepWorkers
    program: Program
    launcher: Launcher
    secret_name: str | None
    """The Secret that opens the storage."""
    suspend: bool
    avoided_nodes: tuple[str, ...] = ()
    """Nodes that no pod of it may run on."""


def service_name(owner: Object) -> str:
    """Return the name of the headless Service of all attempts.

    The hash of the UID keeps a TrainingJob and a TuningSweep of one name apart, and a job from its deleted namesake.
    """
    return child_name(owner["metadata"]["name"], _life(owner))


def job_name(owner: Object, attempt: int) -> str:
    """Return the name of the Job of one attempt."""
    return child_name(owner["metadata"]["name"], f"{_life(owner)}-{attempt}", _JOB_NAME_LIMIT)


def token_secret_name(owner: Object) -> str:
    """Return the name of the Secret with which the nodes of a Ray gang know each other."""
    return child_name(owner["metadata"]["name"], f"{_life(owner)}-ray")


def gang(spec: Gang, settings: Settings) -> tuple[Action, ...]:
    """Return what makes one attempt, in the order in which its parts are needed."""
    token: tuple[Action, ...] = ()
    if spec.launcher is Launcher.RAY:
        token = (CreateSecret(_token_secret(spec.owner), (TOKEN_KEY,)),)
    # A gang that is held needs no names before it goes on, and may be held for long in great numbers.
    names = () if spec.suspend else (Apply(service(spec.owner)),)
    return (*names, *token, Apply(job(spec, settings)))


def service(owner: Object) -> Object:
    """Return the headless Service that gives the pods names before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, service_name(owner)),
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels(owner)},
    }


def job(spec: Gang, settings: Settings) -> Object:
    """Return the Indexed Job: the first pod that fails fails it, and no pod of it is replaced."""
    number, replicas = str(spec.run.attempt), spec.workers.replicas
    queue = queue_labels(spec.owner)
    extra = {ATTEMPT_LABEL: number, **queue}
    body: Object = {
        "completions": replicas,
        "parallelism": replicas,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        # Kueue starts what it has admitted, and nothing that it has not.
        "suspend": spec.suspend or bool(queue),
        "template": {
            "metadata": {"labels": {**labels(spec.owner), ATTEMPT_LABEL: number}},
            "spec": _pod(spec, settings),
        },
    }
    if spec.launcher is Launcher.RAY:
        body["successPolicy"] = {"rules": [{"succeededIndexes": "0"}]}
    name = job_name(spec.owner, spec.run.attempt)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(spec.owner, name, extra), "spec": body}


def queue_name(owner: Object) -> str | None:
    """Return the Kueue queue that an object of ours asks for."""
    found = (owner["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    return str(found) if found else None


def queue_labels(owner: Object) -> dict[str, str]:
    """Return the labels that put what an object makes into its queue."""
    queue = queue_name(owner)
    return {QUEUE_LABEL: queue} if queue else {}


def _life(owner: Object) -> str:
    return short_hash(owner["metadata"]["uid"], length=_HASH)


def _token_secret(owner: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(owner, token_secret_name(owner)),
        "type": "Opaque",
    }


def _pod(spec: Gang, settings: Settings) -> Object:
    pod, grace = pod_settings(spec.workers), _grace_seconds(spec)
    if spec.workers.image:
        # Framework images of others often run as root; whether they may is for the namespace's policy to say.
        pod["securityContext"] = {"seccompProfile": {"type": "RuntimeDefault"}}
    token = {"audience": TOKEN_AUDIENCE, "expirationSeconds": 3600, "path": TOKEN_FILE.rpartition("/")[2]}
    return {
        **pod,
        "restartPolicy": "Never",
        # What does not listen should not be waited for longer than usual, unless its user wants that.
        **({} if grace is None else {"terminationGracePeriodSeconds": grace}),
        "subdomain": service_name(spec.owner),
        **_away_from(spec.avoided_nodes),
        "containers": [_container(spec, settings)],
        "volumes": [
            {"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}]}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ],
    }


def _away_from(nodes: tuple[str, ...]) -> Object:
    if not nodes:
        return {}
    # By its name and not by a label: a field takes one value, so there is a requirement for each node.
    unwanted = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in nodes]
    required = {"nodeSelectorTerms": [{"matchFields": unwanted}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def _container(spec: Gang, settings: Settings) -> Object:
    return {
        "name": "worker",
        **container_settings(spec.workers, settings.runtime_image),
        "command": _command(spec),
        "env": _environment(spec, settings),
        "securityContext": security_context(read_only=False),
        "volumeMounts": [
            {"name": "identity", "mountPath": TOKEN_FILE.rpartition("/")[0], "readOnly": True},
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 (where NCCL, gloo and Ray look)
        ],
    }


def _command(spec: Gang) -> list[str]:
    name, svc = job_name(spec.owner, spec.run.attempt), service_name(spec.owner)
    if spec.launcher is Launcher.RAY:
        return ray_command(spec.program, job=name, service=svc)
    return torch_command(
        spec.program,
        job=name,
        service=svc,
        replicas=spec.workers.replicas,
        run_id=f"{spec.run.uid}-{spec.run.attempt}",
        gpus=has_gpus(spec.workers.resources.limits),
    )


def _environment(spec: Gang, settings: Settings) -> list[Object]:
    storage, grace = spec.run.storage, _grace_seconds(spec)
    ours = [
        *env(
            {
                # The kubelet reads $(NAME) as a reference and $$ as a dollar sign.
                RUN_VARIABLE: spec.run.model_dump_json(by_alias=True, exclude_none=True).replace("$", "$$"),
                REPORT_URL_VARIABLE: _report_url(spec, settings),
                "PYTHONUNBUFFERED": "1",
                # torchrun's own patience is 30 s, whatever the pod has.
                "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": None if grace is None else str(grace - KILL_SECONDS),
                "AWS_ENDPOINT_URL": storage.endpoint,
                "AWS_ENDPOINT_URL_S3": storage.endpoint,
                "AWS_REGION": storage.region,
                "AWS_DEFAULT_REGION": storage.region,
            }
        ),
        *storage_env(spec.secret_name),
        *(_ray_token(spec.owner) if spec.launcher is Launcher.RAY else ()),
    ]
    users: tuple[EnvVar, ...] = spec.workers.env if isinstance(spec.workers, Workers) else ()
    # Server-side apply takes no name twice. The user's entries win; the CRD keeps them off MODELWRIGHT_ names.
    merged = {entry["name"]: entry for entry in (*ours, *(entry.document() for entry in users))}
    return list(merged.values())


def _grace_seconds(spec: Gang) -> int | None:
    """Return the time that a pod has to save and leave; None for what Kubernetes gives."""
    asked = spec.run.training.checkpoint.grace_seconds
    return RECIPE_GRACE_SECONDS if asked is None and not spec.program.command else asked


def _report_url(spec: Gang, settings: Settings) -> str | None:
    if settings.report_url is None:
        return None
    return settings.report_url + report_path(spec.owner["kind"], spec.run.namespace, spec.run.name)


def _ray_token(owner: Object) -> list[Object]:
    source = {"secretKeyRef": {"name": token_secret_name(owner), "key": TOKEN_KEY}}
    return [*env({"RAY_AUTH_MODE": "token"}), {"name": "RAY_AUTH_TOKEN", "valueFrom": source}]
