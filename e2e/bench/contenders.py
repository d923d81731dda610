"""Who is compared: a recipe, also under Ray; a loop of one's own, with `modelwright.train` and in two plain Jobs.

Of those one is started by torchrun, and one by Ray Train, on a Ray cluster that the pods of its Job are.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.bench import steps
from e2e.bench.steps import Course
from e2e.bench.watching import State, Watch
from e2e.scenarios import specs
from e2e.support.install import STORAGE_SECRET
from e2e.support.resources import Object

NAMES = ("recipe", "loop", "plain", "ray", "raytrain")
OURS = ("recipe", "loop", "ray")
_PROGRAM = (Path(__file__).parent / "peer.py").read_text()
_EPOCHS = 100_000
"""More than there is time for."""
_MANY = 1000
# Many faults are a benchmark's; what they cost is measured, and nothing else shall end it.
_PATIENT: Object = {
    "backoffSeconds": 0,
    "budgets": dict.fromkeys(("applicationError", "infrastructure", "hang", "startupTimeout"), _MANY),
}
# torchrun has to be told which pod keeps the rendezvous: the pod's own name may not be in DNS yet.
_TORCHRUN = """\
if [ "$JOB_COMPLETION_INDEX" = 0 ]; then host=1; else host=0; fi
exec torchrun --rdzv-conf="is_host=$host" "$@"
"""
_PORT = 29400
# A raylet that finds no head any more ends, and its container is started again.
_RAY_TRAIN = """\
if [ "$JOB_COMPLETION_INDEX" = 0 ]; then
  ray start --head --port="$2" --include-dashboard=false --disable-usage-stats || exit 1
  shift 2; exec "$@"
fi
until python -c "import socket, sys; socket.create_connection((sys.argv[1], sys.argv[2]), 2)" "$1" "$2" 2>/dev/null; do
  sleep 1
done
exec ray start --address="$1:$2" --block
"""
_RAY_PORT = 6379
# Ray leaves out lines that are like others, as of a process that starts again.
_ALL_LINES = {"RAY_DEDUP_LOGS": "0"}
_RAY_SETTINGS = {
    **_ALL_LINES,
    # Every line once.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Arrow's newest checksums are not known to every store.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
}
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Setting:
    """What is the same for all of them."""

    data: str
    """URI of the rows, a Parquet file."""
    storage: str
    """URI of a prefix of one's own."""
    endpoint: str
    """Of the store, as pods reach it."""
    image: str
    replicas: int = 2
    every: int = 5
    """Seconds between checkpoints."""
    restarts: int = 0
    """How often torchrun may start the processes of a pod again, without a new pod. None is its default, and good for
    the plain Job: an agent that gives up closes the rendezvous to the pod that replaces its own."""
    cpu: str = "1"
    """The limit of each worker."""


@dataclass(frozen=True)
class Contender:
    """One of them, ready to be created."""

    name: str
    kind: str
    """Of the object that a user creates."""
    objects: Sequence[Object]
    course: Callable[[Watch], Course] = field(repr=False)

    @property
    def title(self) -> str:
        """The name of the object that a user creates."""
        return str(self.objects[-1]["metadata"]["name"])


def make(name: str, setting: Setting, title: str) -> Contender:
    """Return a contender whose object gets a name that nothing had before."""
    if name in ("plain", "raytrain"):
        made = _plain(title, setting) if name == "plain" else _ray_train(title, setting)
        return Contender(name, "Job", made, _course_of_script)
    job = _loop(title, setting) if name == "loop" else _recipe(title, setting)
    if name == "ray":
        # Its daemons need a core to begin with.
        job = specs.changed(job, framework="Ray", workers={**_worker("1"), "env": _entries(_ALL_LINES)})
    return Contender(name, "TrainingJob", [job], _course_of_script if name == "loop" else _course_of_recipe)


def _worker(cpu: str) -> Object:
    return {"resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": cpu, "memory": "4Gi"}}}


def _recipe(title: str, setting: Setting) -> Object:
    job = specs.network(title, setting.data, title, replicas=setting.replicas, steps=_EPOCHS)
    every = {"everySeconds": setting.every}
    return specs.changed(job, checkpoint=every, failurePolicy=_PATIENT, workers=_worker(setting.cpu))


def _loop(title: str, setting: Setting) -> Object:
    job = specs.command(title, _PROGRAM, replicas=setting.replicas)
    policy = {**_PATIENT, "processRestarts": setting.restarts} if setting.restarts else _PATIENT
    return specs.changed(
        job,
        dataset={"uri": setting.data},
        checkpoint={"everySeconds": setting.every},
        failurePolicy=policy,
        workers={**_worker(setting.cpu), "env": _env("modelwright", title, setting)},
    )


def _plain(title: str, setting: Setting) -> list[Object]:
    """Return the Job in which torchrun starts the loop in every pod."""
    arguments = [
        f"--nnodes={setting.replicas}",
        "--nproc-per-node=1",
        f"--max-restarts={setting.restarts}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={title}-0.{title}:{_PORT}",
        f"--rdzv-id={title}",
    ]
    command = ["sh", "-c", _TORCHRUN, "torchrun", *arguments, "--no-python", "python", "-c", _PROGRAM]
    return _job(title, setting, command, _env("plain", title, setting), "Never")


def _ray_train(title: str, setting: Setting) -> list[Object]:
    """Return the Job whose pods are a Ray cluster: the first one is its head and drives Ray Train."""
    command = ["sh", "-c", _RAY_TRAIN, "ray", f"{title}-0.{title}", str(_RAY_PORT), "python", "-c", _PROGRAM]
    settings = {"BENCH_WORKERS": str(setting.replicas), **_RAY_SETTINGS}
    return _job(title, setting, command, [*_env("raytrain", title, setting), *_entries(settings)], "OnFailure")


def _job(title: str, setting: Setting, command: list[str], env: list[Object], policy: str) -> list[Object]:
    """Return a headless Service and an Indexed Job, as the documentation of Kubernetes has them."""
    marks = {"bench": title}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": title},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": marks},
    }
    keys = [{"name": key, "valueFrom": {"secretKeyRef": {"name": STORAGE_SECRET, "key": key}}} for key in _KEYS]
    store = _entries({"AWS_ENDPOINT_URL": setting.endpoint, "AWS_DEFAULT_REGION": "us-east-1"})
    container = {
        "name": "worker",
        "image": setting.image,
        "command": command,
        "env": [*env, *store, *keys],
        **_worker(setting.cpu),
    }
    pod = {"restartPolicy": policy, "subdomain": title, "containers": [container]}
    body = {
        "completions": setting.replicas,
        "parallelism": setting.replicas,
        "completionMode": "Indexed",
        "backoffLimit": _MANY,
        "template": {"metadata": {"labels": marks}, "spec": pod},
    }
    return [service, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": title}, "spec": body}]


def _env(keeper: str, title: str, setting: Setting) -> list[Object]:
    values = {
        "BENCH_KEEPER": keeper,
        "BENCH_DATA": setting.data,
        "BENCH_CHECKPOINT": f"{setting.storage}/plain/{title}/latest.pt",
        "BENCH_EVERY": str(setting.every),
        "BENCH_THREADS": setting.cpu,
    }
    return _entries(values)


def _entries(values: Mapping[str, str]) -> list[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _course_of_script(watch: Watch) -> Course:
    return steps.of_script(watch.lines())


def _course_of_recipe(watch: Watch) -> Course:
    return steps.of_recipe(watch.lines(), told(watch.states("TrainingJob")))


def told(states: Sequence[State]) -> list[tuple[float, int]]:
    """Return when each step was first heard of that the status of a TrainingJob told."""
    found: list[tuple[float, int]] = []
    for state in states:
        step = state.object.get("status", {}).get("progress", {}).get("step")
        if step is not None and (not found or found[-1][1] != step):
            found.append((state.at, int(step)))
    return found


def goodput(states: Sequence[State]) -> Object:
    """Return what the status of a TrainingJob last told of its time; empty where it has not."""
    books = [state.object.get("status", {}).get("goodput") for state in states]
    return copy.deepcopy(next((book for book in reversed(books) if book), {}))
