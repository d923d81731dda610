"""A gang as a RayJob, for KubeRay to run: the same pods as those of a Job, joined to a Ray cluster by KubeRay.

KubeRay starts again what ends, one pod at a time; a gang of ours lives and dies together. So a container that ends is
let start again once and then only waits: what is known of its end stays in the status of its pod, which KubeRay would
delete for a pod that has failed. The operator sees it, and ends the attempt.
"""

import shlex
from collections.abc import Iterable
from enum import StrEnum

from modelwright.api.checkpoint import KILL_SECONDS
from modelwright.api.run import TERMINATION_MESSAGE_FILE, Failure
from modelwright.api.variables import HOSTS_VARIABLE, INDEX_VARIABLE
from modelwright.plan.actions import Object
from modelwright.plan.launch import LEAVING, Program
from modelwright.plan.podstatus import RAY_REPLICA_LABEL

API_VERSION, KIND = "ray.io/v1", "RayJob"
# KubeRay derives the names of the Ray cluster and of its services from it, and refuses a longer one.
NAME_LIMIT = 47
RAY_VERSION = "2.59.0"
"""The oldest Ray that our own image may have (pyproject.toml). KubeRay wants to know before it makes a token."""
_OVERWRITE = "ray.io/overwrite-container-cmd"
"""On a pod template: the container's command is ours, and starts Ray itself as KubeRay says."""
_KEEP_HEAD_DOWN = "ray.io/disable-provisioned-head-restart"
"""On a RayJob: a head that is lost is not made again. With a new one, the gang would go on without its driver."""
_REPLICA_VARIABLE = "MODELWRIGHT_REPLICA"
_AGENT_PORT = 52365
_DASHBOARD = "/opt/ray-dashboard"
"""Where our own image keeps what Ray's dashboard needs; where Python finds that, every node of Ray starts an agent."""
_JOB_LOGS = "/tmp/ray/session_latest/logs/job-driver-{}.log"  # noqa: S108 (in the pod, where Ray keeps them)

_NO_DASHBOARD = Failure(
    reason="RayDashboardMissing",
    message="KubeRay needs Ray's dashboard, and the image has none: install ray[default] into it (docs/ray.md)",
    retryable=False,
)
_NUMBERED = f"""\
export {INDEX_VARIABLE}=$((${{{_REPLICA_VARIABLE}:-0}} + 1))
exec "$@"
"""
# Without its dashboard a head never gets ready, and nobody would know why. What an image has of it itself comes first.
# Ray Jobs keep the output of the driver to themselves; here it is on the head's, as everywhere.
_POD = f"""\
head="${{FQ_RAY_IP:-$HOSTNAME}}"
{LEAVING}\
if [ -e "$marks/began" ]; then
  echo "this container has ended before; it waits for the end of its gang" >&2
  run sleep 2147483647
fi
mkdir -p "$marks"; : > "$marks/began"
shown() {{ "$python" -c "import aiohttp_cors" 2>/dev/null; }}
shown || export PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{_DASHBOARD}"
if ! shown; then
  printf %s {shlex.quote(_NO_DASHBOARD.model_dump_json(by_alias=True, exclude_none=True))} > {TERMINATION_MESSAGE_FILE}
  exit 1
fi
ulimit -n 65536 2>/dev/null
if [ -n "$1" ]; then tail -n +1 -F "$1" 2>/dev/null & fi
eval "run $KUBERAY_GEN_RAY_START_CMD"
"""
# What a program leaves as its termination message counts more than its last words, as it does for the kubelet.
_DRIVER = f"""\
trap : TERM
"$@"; code=$?
if [ -s {TERMINATION_MESSAGE_FILE} ]; then echo; cat {TERMINATION_MESSAGE_FILE}; echo; fi
exit "$code"
"""


class Role(StrEnum):
    """What a pod of a Ray cluster is."""

    HEAD = "head"
    WORKER = "worker"


def rayjob(meta: Object, template: Object, program: Program, *, replicas: int, suspend: bool) -> Object:
    """Return the RayJob of an attempt; `template` is that of the pods of its Job.

    KubeRay tries nothing again, and takes the Ray cluster away when the driver has ended. It hands the driver over
    itself (HTTPMode): a pod that does nothing else would need a node, and could fail by itself.
    """
    name = meta["name"]
    workers = replicas - 1
    group = {"groupName": "workers", "replicas": workers, "minReplicas": workers, "maxReplicas": workers}
    cluster: Object = {
        "rayVersion": RAY_VERSION,
        # KubeRay makes a token for each cluster.
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": {}, "template": _template(template, Role.HEAD, name)},
    }
    if workers:
        cluster["workerGroupSpecs"] = [
            {**group, "rayStartParams": {}, "template": _template(template, Role.WORKER, name)}
        ]
    annotations = {**(meta.get("annotations") or {}), _KEEP_HEAD_DOWN: "true"}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {**meta, "annotations": annotations},
        "spec": {
            "submissionMode": "HTTPMode",
            "jobId": name,
            "entrypoint": entrypoint(program),
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 0,
            "suspend": suspend,
            "rayClusterSpec": cluster,
        },
    }


def entrypoint(program: Program) -> str:
    """Return the shell command by which Ray starts the driver."""
    return shlex.join(("sh", "-c", _DRIVER, "driver", *program.argv()))


def _template(made: Object, role: Role, job_id: str) -> Object:
    spec = {name: value for name, value in made["spec"].items() if name not in ("subdomain", "containers")}
    worker, *others = made["spec"]["containers"]
    meta = made["metadata"]
    return {
        "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), _OVERWRITE: "true"}},
        "spec": {**spec, "restartPolicy": "Always", "containers": [_container(worker, role, job_id, spec), *others]},
    }


def _container(made: Object, role: Role, job_id: str, pod: Object) -> Object:
    env = {entry["name"]: entry for entry in made["env"] if entry["name"] != HOSTS_VARIABLE}
    for entry in _variables(role, pod.get("terminationGracePeriodSeconds")):
        env.setdefault(entry["name"], entry)
    return {
        # KubeRay would put in its own otherwise, which kill a pod that is merely busy. That Ray has ended shows anyway.
        "readinessProbe": {**_probe(), "initialDelaySeconds": 5, "periodSeconds": 5, "failureThreshold": 12},
        "livenessProbe": {**_probe(), "initialDelaySeconds": 300, "periodSeconds": 60, "failureThreshold": 30},
        **made,
        "command": _command(made["command"], role, job_id),
        "env": list(env.values()),
    }


def _command(of_job: Iterable[str], role: Role, job_id: str) -> list[str]:
    """Return the command of a container; `of_job` is that in a Job: a shell, behind what keeps the log."""
    whole = list(of_job)
    kept = whole[: whole.index("sh")]
    if role is Role.HEAD:
        return [*kept, "sh", "-c", _POD, "ray", _JOB_LOGS.format(job_id)]
    return ["sh", "-c", _NUMBERED, "worker", *kept, "sh", "-c", _POD, "ray", ""]


def _variables(role: Role, grace: int | None) -> list[Object]:
    ours: list[Object] = [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}]
    if role is Role.WORKER:
        label = {"fieldPath": f"metadata.labels['{RAY_REPLICA_LABEL}']"}
        return [*ours, {"name": _REPLICA_VARIABLE, "valueFrom": {"fieldRef": label}}]
    if grace is not None:
        # A driver that is asked to stop has to hear first that its workers have saved.
        ours.append({"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(max(3, grace - KILL_SECONDS))})
    return [*ours, {"name": INDEX_VARIABLE, "value": "0"}]


def _probe() -> Object:
    return {"httpGet": {"path": "/api/local_raylet_healthz", "port": _AGENT_PORT}, "timeoutSeconds": 10}
