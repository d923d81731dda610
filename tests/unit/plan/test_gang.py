"""What a gang is made of."""

import json
import os
import subprocess
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.common import Storage
from modelwright.api.run import ResolvedStorage, Run
from modelwright.api.trainingjob import TrainingJobSpec
from modelwright.plan.actions import Apply, CreateSecret, Object
from modelwright.plan.gang import Gang, Launcher, gang, job_name, service_name, token_secret_name
from modelwright.plan.launch import LOGGED, program
from modelwright.plan.observed import HELD_ANNOTATION
from modelwright.plan.queueing import queue_of
from modelwright.plan.quotas import Quota
from modelwright.plan.settings import Settings

SETTINGS = Settings(
    "runtime:1", "server:1", report_url="http://operator/reports", storage=Storage(uri="s3://models/team")
)
SPEC = {
    "workers": {"replicas": 2},
    "recipe": {"tabular": {"task": "Classification", "target": "y"}},
    "dataset": {"uri": "s3://data/rows.csv"},
    "model": {"name": "titanic"},
}


def owner(name: str = "titanic", uid: str = "uid-1", **labels: str) -> Object:
    meta = {"name": name, "namespace": "team", "uid": uid, "labels": labels}
    return {"apiVersion": "modelwright.dev/v1alpha1", "kind": "TrainingJob", "metadata": meta}


def make(
    of: Object | None = None,
    launcher: Launcher = Launcher.TORCH,
    attempt: int = 1,
    *,
    suspend: bool = False,
    settings: Settings = SETTINGS,
    preflight: Any = None,
    checkpoint: dict[str, Any] | None = None,
    failurePolicy: Any = None,  # noqa: N803 (as in the spec)
    ray: Any = None,
    **workers: Any,
) -> tuple[Any, ...]:
    of = of or owner()
    more = {"preflight": preflight or {}, "checkpoint": checkpoint or {}, "failurePolicy": failurePolicy or {}}
    more |= {} if ray is None else {"framework": "Ray", "ray": ray}
    spec = TrainingJobSpec.model_validate({**SPEC, "workers": {"replicas": 2, **workers}, **more})
    storage = ResolvedStorage(uri="s3://models/team", endpoint="http://s3:7070", region="eu")
    meta = of["metadata"]
    run = Run(
        namespace=meta["namespace"], name=meta["name"], uid=meta["uid"], attempt=attempt, storage=storage, training=spec
    )
    started = program("modelwright.runtime.train", spec.workers.command, spec.workers.args)
    queue = queue_of(of, spec.workers, settings)
    return gang(Gang(of, run, spec.workers, started, launcher, "s3", suspend, queue=queue), settings)


def job_of(actions: tuple[Any, ...]) -> Object:
    (found,) = [a.object for a in actions if isinstance(a, Apply) and a.object["kind"] == "Job"]
    return found


def pod_of(actions: tuple[Any, ...]) -> Object:
    spec: Object = job_of(actions)["spec"]["template"]["spec"]
    return spec


def container_of(actions: tuple[Any, ...]) -> Object:
    (found,) = pod_of(actions)["containers"]
    return dict(found)


def command_of(actions: tuple[Any, ...]) -> list[str]:
    """Return the command of a container behind what keeps its log."""
    command: list[str] = container_of(actions)["command"]
    assert tuple(command[: len(LOGGED)]) == LOGGED
    return command[len(LOGGED) :]


def env_of(actions: tuple[Any, ...]) -> dict[str, Any]:
    entries = container_of(actions)["env"]
    assert len({entry["name"] for entry in entries}) == len(entries), "server-side apply takes no name twice"
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def test_the_service_names_pods_before_they_are_ready() -> None:
    service, _ = make()
    spec = service.object["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is True
    assert spec["selector"].items() <= job_of(make())["spec"]["template"]["metadata"]["labels"].items()
    assert pod_of(make())["subdomain"] == service.object["metadata"]["name"]


def test_one_failed_pod_fails_the_job_and_none_is_replaced() -> None:
    spec = job_of(make(replicas=3))["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (3, 3, "Indexed")
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert pod_of(make())["restartPolicy"] == "Never"
    assert "successPolicy" not in spec


def test_a_recipe_has_time_to_save_before_it_leaves() -> None:
    assert pod_of(make())["terminationGracePeriodSeconds"] == 120
    assert env_of(make())["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "110"
    assert "terminationGracePeriodSeconds" not in pod_of(make(image="mine:1", command=["sh", "-c", "sleep 1000"]))


def test_a_user_may_give_more_time_to_save() -> None:
    asked = make(image="mine:1", command=["python", "train.py"], checkpoint={"graceSeconds": 600})
    assert pod_of(asked)["terminationGracePeriodSeconds"] == 600
    assert env_of(asked)["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "590"


def test_a_held_gang_is_its_job_alone() -> None:
    assert [action.object["kind"] for action in make(suspend=True)] == ["Job"]


def test_children_belong_to_their_owner_and_name_their_attempt() -> None:
    found = job_of(make(attempt=4))
    assert found["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert found["metadata"]["labels"]["modelwright.dev/attempt"] == "4"
    assert found["spec"]["template"]["metadata"]["labels"] == found["metadata"]["labels"]


@given(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True), st.integers(1, 1001))
def test_names_fit_whatever_the_owner_is_called(name: str, attempt: int) -> None:
    of = owner(name)
    longest_host = f"{job_name(of, attempt)}-999"
    for label in (longest_host, service_name(of), token_secret_name(of)):
        assert len(label) <= 63
        assert label[0].isalpha()
        assert label.replace("-", "").isalnum()


@given(st.sampled_from(["a", "a-1", "a" * 250]), st.sampled_from(["a", "a-1", "a" * 250]), st.integers(1, 12))
def test_names_of_two_lives_never_meet(first: str, second: str, attempt: int) -> None:
    assert job_name(owner(first, "uid-1"), attempt) != job_name(owner(second, "uid-2"), attempt)
    assert job_name(owner(first), attempt) != job_name(owner(first), attempt + 1)
    assert service_name(owner(first, "uid-1")) != service_name(owner(second, "uid-2"))


def test_pods_hold_no_rights_but_a_token_for_the_operator() -> None:
    pod, container = pod_of(make()), container_of(make())
    assert pod["automountServiceAccountToken"] is False
    (identity,) = (volume for volume in pod["volumes"] if volume["name"] == "identity")
    (source,) = identity["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "modelwright"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["identity"] == "/var/run/secrets/modelwright"
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_shared_memory_is_memory() -> None:
    volumes = {volume["name"]: volume for volume in pod_of(make())["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container_of(make())["volumeMounts"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory"}


def test_only_our_own_image_is_kept_from_root() -> None:
    assert pod_of(make())["securityContext"]["runAsNonRoot"] is True
    assert pod_of(make(image="pytorch/pytorch"))["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}


def test_the_storage_is_told_and_its_keys_stay_in_the_secret() -> None:
    env = env_of(make())
    assert env["AWS_ENDPOINT_URL_S3"] == env["AWS_ENDPOINT_URL"] == "http://s3:7070"
    assert env["AWS_REGION"] == "eu"
    assert env["AWS_SECRET_ACCESS_KEY"] == {"secretKeyRef": {"name": "s3", "key": "AWS_SECRET_ACCESS_KEY"}}
    assert env["MODELWRIGHT_REPORT_URL"] == "http://operator/reports/v1/namespaces/team/trainingjobs/titanic/report"


def test_the_users_variables_win_over_ours() -> None:
    env = env_of(make(env=[{"name": "AWS_REGION", "value": "us"}, {"name": "X", "value": "1"}]))
    assert (env["AWS_REGION"], env["X"]) == ("us", "1")


LIMIT = {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}}


def test_pods_are_told_how_many_cpus_they_may_use() -> None:
    assert env_of(make())["MODELWRIGHT_CPUS"] == LIMIT


def test_a_program_of_the_users_has_no_more_threads_than_cpus() -> None:
    assert env_of(make(command=["train"]))["OMP_NUM_THREADS"] == LIMIT
    assert env_of(make(command=["train"], env=[{"name": "OMP_NUM_THREADS", "value": "3"}]))["OMP_NUM_THREADS"] == "3"


def test_a_train_function_under_ray_has_its_share_of_the_cpus_of_its_pod() -> None:
    def threads(ray: Any, limits: Any, **workers: Any) -> Any:
        made = make(launcher=Launcher.RAY, ray=ray, command=["train"], resources={"limits": limits}, **workers)
        return env_of(made).get("OMP_NUM_THREADS")

    assert threads({}, {"cpu": 8}) == LIMIT, "one in each pod has all of it"
    assert threads({"numWorkers": 4}, {"cpu": 8}) == "4"
    assert threads({"numWorkers": 5}, {"cpu": "7500m"}) == "2", "as a recipe counts: 8 CPUs for three in a pod"
    assert threads({"numWorkers": 40}, {"cpu": 8}) == "1"
    assert threads({"numWorkers": 4}, {}) is None, "nobody knows what there is to share"
    assert threads({"resourcesPerWorker": {"cpu": 2}}, {"cpu": 8}) is None, "Ray gives it two"
    assert threads({}, {"cpu": 8, "nvidia.com/gpu": 1}) is None
    assert threads({}, {"cpu": 8}, env=[{"name": "OMP_NUM_THREADS", "value": "3"}]) == "3"
    override = {"containers": [{"name": "worker", "resources": {"limits": {"cpu": 2}}}]}
    assert threads({"numWorkers": 4}, {"cpu": 8}, podTemplate={"spec": override}) == "1"


def test_who_counts_threads_is_not_told_of_any() -> None:
    assert "OMP_NUM_THREADS" not in env_of(make()), "a recipe counts by itself"
    gpus = {"limits": {"nvidia.com/gpu": 2}}
    assert "OMP_NUM_THREADS" not in env_of(make(command=["train"], resources=gpus)), "torchrun gives each process one"
    assert "OMP_NUM_THREADS" not in env_of(make(command=["train"], processesPerNode=2))
    assert "OMP_NUM_THREADS" not in env_of(make(command=["train"], launcher=Launcher.RAY)), "who knows what it starts"
    assert "OMP_NUM_THREADS" not in env_of(make(launcher=Launcher.RAY, ray={})), "a recipe counts by itself"


def kubelet_expands(text: str) -> str:
    """Do to an environment value what the kubelet does where no reference resolves."""
    return text.replace("$$", "$")


@given(st.text(alphabet='$()aA{} "\\', max_size=12))
def test_the_run_survives_the_kubelet(text: str) -> None:
    rules = [{"message": f"cost {text}", "restart": True}]
    made = env_of(make(failurePolicy={"rules": rules}))["MODELWRIGHT_RUN"]
    run = Run.model_validate_json(kubelet_expands(made))
    assert run.training.failure_policy.rules[0].message == f"cost {text}"
    assert json.loads(kubelet_expands(made))["attempt"] == 1


def test_a_suspended_job_is_made_suspended() -> None:
    held, free = job_of(make(suspend=True)), job_of(make())
    assert [each["spec"]["suspend"] for each in (held, free)] == [True, False]
    assert [HELD_ANNOTATION in each["metadata"]["annotations"] for each in (held, free)] == [True, False]


def test_a_queued_job_waits_for_kueue() -> None:
    found = job_of(make(owner(**{"kueue.x-k8s.io/queue-name": "gpus"})))
    assert found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert found["spec"]["suspend"] is True


def test_a_gang_that_a_quota_counts_waits_for_room() -> None:
    counted = replace(SETTINGS, quotas=(Quota("cpus", {"cpu": Decimal(8)}),))
    resources = {"requests": {"cpu": "1"}}
    assert job_of(make(settings=counted, resources=resources))["spec"]["suspend"] is True
    assert job_of(make(settings=counted))["spec"]["suspend"] is False


def test_ray_ends_with_its_driver_and_has_a_token_of_its_own() -> None:
    _, secret, _ = actions = make(launcher=Launcher.RAY)
    assert isinstance(secret, CreateSecret)
    assert "data" not in secret.object
    assert job_of(actions)["spec"]["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    env = env_of(actions)
    assert env["RAY_AUTH_MODE"] == "token"
    name = secret.object["metadata"]["name"]
    assert env["RAY_AUTH_TOKEN"] == {"secretKeyRef": {"name": name, "key": secret.keys[0]}}


def test_one_pod_of_ours_needs_no_launcher() -> None:
    assert command_of(make(replicas=1)) == ["python", "-m", "modelwright.runtime.train"]


def test_one_pod_of_the_users_runs_under_torchrun() -> None:
    command = command_of(make(replicas=1, command=["python", "main.py"], args=["--lr", "1"]))
    assert command == [
        *("torchrun", "--nnodes=1", "--nproc-per-node=1", "--max-restarts=0"),
        *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--rdzv-id=uid-1-1"),
        *("--no-python", "--", "python", "main.py", "--lr", "1"),
    ]


def test_the_end_of_a_log_is_kept_and_the_job_says_where() -> None:
    found = job_of(make(attempt=3))
    assert found["metadata"]["annotations"] == {"modelwright.dev/logs": "s3://models/team/runs/team/uid-1/attempts/3/"}


def test_a_program_in_an_image_of_the_users_is_left_alone() -> None:
    actions = make(replicas=1, image="mine:1", command=["python", "main.py"])
    assert container_of(actions)["command"][0] == "torchrun"
    assert "annotations" not in job_of(actions)["metadata"]


def test_every_gpu_gets_a_process() -> None:
    gpus = {"limits": {"nvidia.com/gpu": 4}}
    assert "--nproc-per-node=4" in command_of(make(resources=gpus))
    assert "--nproc-per-node=4" in command_of(make(replicas=1, resources=gpus))
    assert "--nproc-per-node=1" in container_of(make(resources={"limits": {"nvidia.com/gpu": 0}}))["command"]
    assert env_of(make(resources=gpus))["MODELWRIGHT_GPUS"] == "4"
    assert env_of(make())["MODELWRIGHT_GPUS"] == "0"


def test_the_user_says_how_many_processes_where_kubernetes_does_not() -> None:
    assert "--nproc-per-node=3" in command_of(make(processesPerNode=3))
    assert "--nproc-per-node=gpu" in container_of(make(processesPerNode="gpu"))["command"]
    assert (
        "--nproc-per-node=1"
        in container_of(make(processesPerNode=1, resources={"limits": {"nvidia.com/gpu": 4}}))["command"]
    )


@pytest.mark.parametrize(("asked", "recipe", "command"), [(None, 3, 0), (0, 0, 0), (7, 7, 7)])
def test_processes_start_again_in_their_pods_as_often_as_the_spec_says(
    shell: Any, asked: int | None, recipe: int, command: int
) -> None:
    policy = {} if asked is None else {"processRestarts": asked}
    mine = {"command": ["python", "main.py"]}
    for workers, launcher, wanted in (({}, "python", recipe), (mine, "torchrun", command)):
        for replicas in (1, 2):
            made = make(failurePolicy=policy, replicas=replicas, processesPerNode=2, **workers)
            (line,) = (line for line in shell(command_of(made), 0) if "--nproc-per-node=2" in line)
            assert line.startswith(f"{launcher} ")
            assert f" --max-restarts={wanted} " in line


@pytest.mark.parametrize(
    ("replicas", "restarts", "command", "fresh"),
    [(2, 1, True, True), (2, None, True, False), (1, 3, True, False), (2, 3, False, False)],
)
def test_processes_of_torchruns_own_agents_that_start_again_meet_in_a_store_of_their_own(
    *, replicas: int, restarts: int | None, command: bool, fresh: bool
) -> None:
    policy = {} if restarts is None else {"processRestarts": restarts}
    workers = {"command": ["python", "main.py"]} if command else {}
    found = env_of(make(failurePolicy=policy, replicas=replicas, processesPerNode=2, **workers))
    assert (found.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE") == "1") is fresh


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    """Run a container's command with programs that print how they were called."""
    for name in ("torchrun", "ray", "python"):
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        tool.chmod(0o755)

    def run(command: list[str], index: int) -> list[str]:
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.splitlines()

    return run


def test_index_0_hosts_the_rendezvous(shell: Any) -> None:
    command = command_of(make(preflight={"enabled": False}))
    assert "is_host=1," in shell(command, 0)[0]
    (line,) = shell(command, 1)
    assert "is_host=0," in line
    host = f"{job_name(owner(), 1)}-0.{service_name(owner())}:29400"
    for wanted in ("--nnodes=2", "--max-restarts=3", f"--rdzv-endpoint={host}", "--rdzv-id=uid-1-1"):
        assert f" {wanted} " in f"{line} "
    assert "-m modelwright.runtime.train.torchrun " in line
    assert "--names" not in line


def test_a_recipe_asks_for_the_names_of_its_workers_before_torchrun_gives_up(shell: Any) -> None:
    (line,) = shell(command_of(make()), 1)
    assert " --names=1740 " in line
    env = env_of(make(replicas=3))
    assert env["MODELWRIGHT_HOSTS"].format(2) == f"{job_name(owner(), 1)}-2.{service_name(owner())}"
    assert env["MODELWRIGHT_WORKERS"] == "3"
    assert env["MODELWRIGHT_NODE"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}


def test_a_pod_of_ray_knows_its_uid_for_it_leaves_marks_where_others_may() -> None:
    assert env_of(make(launcher=Launcher.RAY))["MODELWRIGHT_POD"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert "MODELWRIGHT_POD" not in env_of(make())


def test_the_users_program_runs_in_every_pod_of_torch(shell: Any) -> None:
    (line,) = shell(command_of(make(command=["python", "a b.py"])), 1)
    assert line.endswith("--no-python -- python a b.py")
    assert "--local-addr" not in line, "its name is known by the Service of the gang"


def test_pods_on_the_network_of_their_nodes_meet_by_address_for_nobody_need_know_the_names_of_nodes(shell: Any) -> None:
    actions = make(command=["main"], podTemplate={"spec": {"hostNetwork": True}})
    found = {entry["name"]: entry for entry in container_of(actions)["env"]}["MODELWRIGHT_ADDRESS"]
    assert found["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    (line,) = shell(["env", "MODELWRIGHT_ADDRESS=10.0.0.7", *command_of(actions)], 1)
    assert line.startswith("torchrun --local-addr=10.0.0.7 --rdzv-conf=")
    assert "MODELWRIGHT_ADDRESS" not in env_of(make(command=["main"]))


def test_what_only_the_job_is_made_of_is_not_told_to_pods_whose_variables_are_bounded() -> None:
    long = [{"name": f"LONG_{number}", "value": "x" * 32_000} for number in range(5)]
    told = env_of(make(command=["main", "x" * 32_000], env=long))["MODELWRIGHT_RUN"]
    assert len(told) < 10_000


def test_rays_head_starts_the_driver_and_the_others_join(shell: Any) -> None:
    command = command_of(make(launcher=Launcher.RAY, command=["python", "main.py"]))
    head, driver = shell(command, 0)
    assert head.startswith("ray start --head --port=6379")
    assert driver == "python main.py"
    joined = shell(command, 1)
    assert joined[-1].startswith(f"ray start --address={job_name(owner(), 1)}-0.{service_name(owner())}:6379 ")
    assert joined[-1].endswith(" --block")


def test_a_variable_of_the_users_may_speak_of_ours_and_of_those_before_it() -> None:
    env = [{"name": "CACHE", "value": "10.0.0.7"}, {"name": "AWS_ENDPOINT_URL", "value": "http://$(CACHE):9000"}]
    env.append({"name": "SHARE", "value": "1 of $(MODELWRIGHT_WORKERS)"})
    names = [entry["name"] for entry in container_of(make(env=env))["env"]]
    assert len(set(names)) == len(names)
    places = [names.index(name) for name in ("MODELWRIGHT_WORKERS", "CACHE", "AWS_ENDPOINT_URL", "SHARE")]
    assert places == sorted(places)
