"""A gang: the headless Service and the Indexed Job of pods that live and die together. For training and tuning."""

from dataclasses import dataclass
from enum import StrEnum

from modelwright.api.checkpoint import KILL_SECONDS, RECIPE_GRACE_SECONDS
from modelwright.api.common import EnvVar
from modelwright.api.layout import attempt_prefix
from modelwright.api.podtemplate import IDENTITY_VOLUME, WORKER
from modelwright.api.processes import gpus
from modelwright.api.run import REPORT_URL_VARIABLE, RUN_VARIABLE, TOKEN_AUDIENCE, TOKEN_FILE, Run, report_path
from modelwright.api.trainingjob import Workers
from modelwright.api.tuningsweep import SweepWorkers
from modelwright.api.variables import (
    ADDRESS_VARIABLE,
    CPUS_VARIABLE,
    GPUS_VARIABLE,
    HOSTS_VARIABLE,
    NODE_VARIABLE,
    POD_VARIABLE,
    THREADS_VARIABLE,
    WORKERS_VARIABLE,
)
from modelwright.plan import gangpods, podgroup, rayjob, rayscaling
from modelwright.plan.actions import Action, Apply, CreateSecret, Object
from modelwright.plan.launch import LOGGED, Program, processes, ray_command, torch_command
from modelwright.plan.names import child_name, short_hash
from modelwright.plan.observed import ATTEMPT_LABEL, HELD_ANNOTATION, LOGS_ANNOTATION
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
from modelwright.plan.queueing import Queue
from modelwright.plan.settings import Settings

_SHARED_MEMORY = "shared-memory"
TOKEN_KEY = "token"  # noqa: S105 (the name of a key)
_HASH = 5
# An Indexed Job names its pods' hosts `<job>-<index>`, and a host name has 63 characters.
JOB_NAME_LIMIT = 63 - len("-999")


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
    queue: Queue | None = None
    """What it waits for before its pods start."""
    kuberay: bool = False
    """It is a RayJob, which KubeRay runs, instead of a Job with its Service. The launcher is Ray."""


def service_name(owner: Object) -> str:
    """Return the name of the headless Service of all attempts.

    The hash of the UID keeps a TrainingJob and a TuningSweep of one name apart, and a job from its deleted namesake.
    """
    return child_name(owner["metadata"]["name"], _life(owner))


def job_name(owner: Object, attempt: int) -> str:
    """Return the name of the Job of one attempt."""
    return child_name(owner["metadata"]["name"], f"{_life(owner)}-{attempt}", JOB_NAME_LIMIT)


def ray_job_name(owner: Object, attempt: int) -> str:
    """Return the name of the RayJob of one attempt, where KubeRay runs the gang."""
    return child_name(owner["metadata"]["name"], f"{_life(owner)}-{attempt}", rayjob.NAME_LIMIT)


def token_secret_name(owner: Object) -> str:
    """Return the name of the Secret with which the nodes of a Ray gang know each other."""
    return child_name(owner["metadata"]["name"], f"{_life(owner)}-ray")


def gang(spec: Gang, settings: Settings) -> tuple[Action, ...]:
    """Return what makes one attempt, in the order in which its parts are needed."""
    if spec.kuberay:
        return (Apply(ray_job(spec, settings)),)
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
    replicas = spec.workers.replicas
    body: Object = {
        "completions": replicas,
        "parallelism": replicas,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "suspend": _is_held(spec),
        "template": _template(spec, settings),
    }
    if spec.launcher is Launcher.RAY:
        body["successPolicy"] = {"rules": [{"succeededIndexes": "0"}]}
    meta = _metadata(spec, job_name(spec.owner, spec.run.attempt))
    if body["suspend"]:
        meta = {**meta, "annotations": {**meta.get("annotations", {}), HELD_ANNOTATION: "true"}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": body}


def ray_job(spec: Gang, settings: Settings) -> Object:
    """Return the RayJob: KubeRay makes the same pods of it, and the names by which they find each other."""
    meta = _metadata(spec, ray_job_name(spec.owner, spec.run.attempt))
    template, replicas = _template(spec, settings), spec.workers.replicas
    return rayjob.rayjob(meta, template, spec.program, replicas=replicas, suspend=_is_held(spec))


def logs_uri(spec: Gang) -> str | None:
    """Return where the logs of an attempt are kept; None where they are not: an image of the user's may lack that."""
    if spec.workers.image:
        return None
    run = spec.run
    return f"{run.storage.uri}/{attempt_prefix(run.namespace, run.uid, run.attempt)}"


def _metadata(spec: Gang, name: str) -> Object:
    extra = {ATTEMPT_LABEL: str(spec.run.attempt), **(spec.queue.labels if spec.queue else {})}
    meta = metadata(spec.owner, name, extra)
    logs = logs_uri(spec)
    return meta if logs is None else {**meta, "annotations": {LOGS_ANNOTATION: logs}}


def _is_held(spec: Gang) -> bool:
    # Who keeps the queue starts what it has admitted, and nothing that it has not.
    return spec.suspend or spec.queue is not None


def _life(owner: Object) -> str:
    return short_hash(owner["metadata"]["uid"], length=_HASH)


def _token_secret(owner: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(owner, token_secret_name(owner)),
        "type": "Opaque",
    }


def _template(spec: Gang, settings: Settings) -> Object:
    marks = {**labels(spec.owner), ATTEMPT_LABEL: str(spec.run.attempt)}
    proposed = {
        "metadata": {"labels": marks},
        "spec": {**_pod(spec, settings), **gangpods.placement(spec.workers, marks)},
    }
    made = gangpods.overridden(spec.workers, proposed)
    contract = _contract(spec, marks, made["spec"], settings)
    sealed = gangpods.sealed(made, contract, spec.avoided_nodes)
    worker, told = sealed["spec"]["containers"][0], contract["spec"]["containers"][0]["env"]
    # Kubernetes lets a variable speak of those before it: the user's may speak of ours.
    worker["env"].sort(key=lambda entry: entry not in told)
    sealed["spec"] |= _membership(spec, sealed["spec"], settings)
    return sealed


def _membership(spec: Gang, pod: Object, settings: Settings) -> Object:
    """Return how a pod says that it is to be placed with its peers; empty where it does not."""
    # What Kueue admits it places by its own means, which may include groups. A PodGroup belongs to a Job of ours, and
    # KubeRay has gang schedulers of its own.
    if settings.pod_groups is None or spec.kuberay or (spec.queue is not None and spec.queue.labels):
        return {}
    return podgroup.membership(pod, job_name(spec.owner, spec.run.attempt), podgroup.least(spec.workers))


def _pod(spec: Gang, settings: Settings) -> Object:
    """Return what the user's override may change."""
    pod = pod_settings(spec.workers)
    if spec.workers.image:
        # Framework images of others often run as root; whether they may is for the namespace's policy to say.
        pod["securityContext"] = {"seccompProfile": {"type": "RuntimeDefault"}}
    grace = _grace_seconds(spec)
    return {
        **pod,
        # What does not listen should not be waited for longer than usual, unless its user wants that.
        **({} if grace is None else {"terminationGracePeriodSeconds": grace}),
        "containers": [_container(spec, settings)],
        "volumes": [{"name": _SHARED_MEMORY, "emptyDir": gangpods.shared_memory(spec.workers)}],
    }


def _contract(spec: Gang, marks: Object, pod: Object, settings: Settings) -> Object:
    """Return what holds whatever the user's override says; `pod` is the spec with the override in it."""
    container = pod["containers"][0]
    token = {"audience": TOKEN_AUDIENCE, "expirationSeconds": 3600, "path": TOKEN_FILE.rpartition("/")[2]}
    mount = {"name": IDENTITY_VOLUME, "mountPath": TOKEN_FILE.rpartition("/")[0], "readOnly": True}
    worker = {
        "name": WORKER,
        "command": [*(LOGGED if logs_uri(spec) else ()), *_command(spec, container)],
        "env": [*_told(spec, container, settings), *_threads(spec, container), *_address(pod)],
        "volumeMounts": [mount],
    }
    return {
        "metadata": {"labels": marks},
        "spec": {
            "restartPolicy": "Never",
            "subdomain": service_name(spec.owner),
            "containers": [worker],
            "volumes": [{"name": IDENTITY_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}],
        },
    }


def _grace_seconds(spec: Gang) -> int | None:
    """Return the time that a pod has to save and leave; None for what Kubernetes gives."""
    asked = spec.run.training.checkpoint.grace_seconds
    default = RECIPE_GRACE_SECONDS if asked is None and not spec.program.command else asked
    return gangpods.grace_seconds(spec.workers, default)


def _container(spec: Gang, settings: Settings) -> Object:
    return {
        "name": WORKER,
        **container_settings(spec.workers, settings.runtime_image),
        "env": _environment(spec),
        "securityContext": security_context(read_only=False),
        "volumeMounts": [
            {"name": _SHARED_MEMORY, "mountPath": "/dev/shm"},  # noqa: S108 (where NCCL, gloo and Ray look)
        ],
    }


def _command(spec: Gang, container: Object) -> list[str]:
    name, svc = job_name(spec.owner, spec.run.attempt), service_name(spec.owner)
    policy = spec.run.training.failure_policy
    if spec.launcher is Launcher.RAY:
        startup = policy.startup_timeout_seconds
        return ray_command(spec.program, job=name, service=svc, startup_seconds=startup)
    return torch_command(
        spec.program,
        job=name,
        service=svc,
        replicas=spec.workers.replicas,
        run_id=f"{spec.run.uid}-{spec.run.attempt}",
        processes=_processes(spec, container),
        preflight=spec.run.training.preflight.enabled,
        restarts=policy.process_restarts,
        startup_seconds=policy.startup_timeout_seconds,
    )


def _processes(spec: Gang, container: Object) -> str:
    asked = spec.workers.processes_per_node if isinstance(spec.workers, Workers) else None
    return processes(asked, container.get("resources") or {})


def _environment(spec: Gang) -> list[Object]:
    """Return the variables that the user may set otherwise."""
    storage, grace = spec.run.storage, _grace_seconds(spec)
    ours = [
        *env(
            {
                "PYTHONUNBUFFERED": "1",
                # Silent by itself; with it, an error of NCCL says which call of the network or the driver failed.
                "NCCL_DEBUG": "WARN",
                # torchrun's own patience is 30 s, whatever the pod has.
                "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": None if grace is None else str(max(1, grace - KILL_SECONDS)),
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1" if _needs_fresh_stores(spec) else None,
                "AWS_ENDPOINT_URL": storage.endpoint,
                "AWS_ENDPOINT_URL_S3": storage.endpoint,
                "AWS_REGION": storage.region,
                "AWS_DEFAULT_REGION": storage.region,
            }
        ),
        *storage_env(spec.secret_name),
        *(_ray_token(spec.owner) if spec.launcher is Launcher.RAY and not spec.kuberay else ()),
    ]
    users: tuple[EnvVar, ...] = spec.workers.env if isinstance(spec.workers, Workers) else ()
    # Server-side apply takes no name twice. The user's entries win, in their own order, for one may speak of another;
    # the CRD keeps them off MODELWRIGHT_ names.
    theirs = {entry.name: entry.document() for entry in users}
    return [*(entry for entry in ours if entry["name"] not in theirs), *theirs.values()]


def _needs_fresh_stores(spec: Gang) -> bool:
    """Tell whether processes of torchrun's own agents may start again in several pods.

    They would meet in the store of the agents, under the number of the restart, which torchrun counts only where a
    process failed: in the other pods it is another one. Without that store the new rank 0 keeps one of its own.
    """
    restarts = spec.run.training.failure_policy.process_restarts
    plain = spec.launcher is Launcher.TORCH and bool(spec.program.command)
    return plain and bool(restarts) and spec.workers.replicas > 1


def _threads(spec: Gang, container: Object) -> list[Object]:
    """Return how many threads a program of the user's gets: torch would start one for each CPU of the node.

    A recipe counts them itself, Ray tells workers that ask for CPUs, torchrun gives one to each of several processes,
    and a user may have said so. Not proposed before the override, which may bring devices, and whose entry would be
    merged with ours.
    """
    if not spec.program.command or any(entry["name"] == THREADS_VARIABLE for entry in container["env"]):
        return []
    if spec.launcher is Launcher.RAY:
        return rayscaling.threads(spec.run.training.ray, spec.workers.replicas, _limits(container))
    return [cpus_env(THREADS_VARIABLE)] if _processes(spec, container) == "1" else []


def _told(spec: Gang, container: Object, settings: Settings) -> list[Object]:
    """Return the variables that our own programs read."""
    limits = _limits(container)
    host = f"{job_name(spec.owner, spec.run.attempt)}-{{}}.{service_name(spec.owner)}"
    plain = env(
        {
            # The kubelet reads $(NAME) as a reference and $$ as a dollar sign.
            RUN_VARIABLE: _for_pods(spec.run).replace("$", "$$"),
            REPORT_URL_VARIABLE: _report_url(spec, settings),
            HOSTS_VARIABLE: host,
            WORKERS_VARIABLE: str(spec.workers.replicas),
            GPUS_VARIABLE: str(gpus(limits)),
            **_scaling(spec, limits),
        }
    )
    of_the_pod = {NODE_VARIABLE: "spec.nodeName"}
    if spec.launcher is Launcher.RAY:
        of_the_pod[POD_VARIABLE] = "metadata.uid"
    return [*plain, *map(field_env, of_the_pod, of_the_pod.values()), cpus_env(CPUS_VARIABLE)]


def _address(pod: Object) -> list[Object]:
    """Return what tells a pod its address where it has the host name of its node, which DNS need not know."""
    if not pod.get("hostNetwork"):
        return []
    return [field_env(ADDRESS_VARIABLE, "status.podIP")]


def _scaling(spec: Gang, limits: dict[str, str | int]) -> dict[str, str]:
    workers = spec.workers
    return rayscaling.variables(spec.run.training.ray, workers, limits) if isinstance(workers, Workers) else {}


def _limits(container: Object) -> dict[str, str | int]:
    limits: dict[str, str | int] = (container.get("resources") or {}).get("limits") or {}
    return limits


def _for_pods(run: Run) -> str:
    """Return a run as JSON without what only the Job is made from: a variable holds no more than 128 KiB."""
    of_the_job = {"pod_template", "command", "args", "env"}
    workers = {"workers": of_the_job}
    return run.model_dump_json(
        by_alias=True,
        exclude_none=True,
        exclude={"training": workers, "sweep": {"workers": of_the_job, "template": workers}},
    )


def _report_url(spec: Gang, settings: Settings) -> str | None:
    if settings.report_url is None:
        return None
    return settings.report_url + report_path(spec.owner["kind"], spec.run.namespace, spec.run.name)


def _ray_token(owner: Object) -> list[Object]:
    source = {"secretKeyRef": {"name": token_secret_name(owner), "key": TOKEN_KEY}}
    return [*env({"RAY_AUTH_MODE": "token"}), {"name": "RAY_AUTH_TOKEN", "valueFrom": source}]
