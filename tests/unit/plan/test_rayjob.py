"""What KubeRay is given to run."""

import os
import shlex
import signal
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from modelwright.api.run import Failure, ResolvedStorage, Run
from modelwright.api.trainingjob import TrainingJobSpec
from modelwright.plan import rayjob
from modelwright.plan.actions import Apply, Object
from modelwright.plan.gang import Gang, Launcher, gang, job, ray_job_name
from modelwright.plan.launch import LOGGED, program
from modelwright.plan.queueing import queue_of
from tests.unit.plan.test_gang import SETTINGS, SPEC, owner

ROOT = Path(__file__).parents[3]


def attempt(of: Object | None = None, *, suspend: bool = False, **workers: Any) -> Gang:
    of = of or owner()
    asked = {**SPEC, "framework": "Ray", "ray": {"kuberay": True}, "workers": {"replicas": 3, **workers}}
    if "command" in workers:
        asked = {name: value for name, value in asked.items() if name not in ("recipe", "model")}
    spec = TrainingJobSpec.model_validate(asked)
    meta, storage = of["metadata"], ResolvedStorage(uri="s3://models/team")
    run = Run(namespace="team", name=meta["name"], uid=meta["uid"], attempt=2, storage=storage, training=spec)
    started = program("modelwright.runtime.train", spec.workers.command, spec.workers.args)
    queue = queue_of(of, spec.workers, SETTINGS)
    return Gang(of, run, spec.workers, started, Launcher.RAY, "s3", suspend, queue=queue, kuberay=True)


def made(spec: Gang) -> Object:
    (apply,) = gang(spec, SETTINGS)
    assert isinstance(apply, Apply)
    return apply.object


def templates(found: Object) -> tuple[Object, Object]:
    cluster = found["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    return cluster["headGroupSpec"]["template"], group["template"]


def env_of(template: Object) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in template["spec"]["containers"][0]["env"]}


def test_an_attempt_is_one_ray_job_that_kuberay_does_not_try_again() -> None:
    found = made(attempt())
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    body = found["spec"]
    assert (body["backoffLimit"], body["shutdownAfterJobFinishes"], body["suspend"]) == (0, True, False)
    (group,) = body["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 2
    assert body["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert found["metadata"]["annotations"]["ray.io/disable-provisioned-head-restart"] == "true"
    (reference,) = found["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["controller"]) == ("TrainingJob", True)


def test_a_gang_of_one_has_a_head_and_no_workers() -> None:
    assert "workerGroupSpecs" not in made(attempt(replicas=1))["spec"]["rayClusterSpec"]


def test_its_pods_are_those_of_a_job_but_for_what_kuberay_does() -> None:
    spec = attempt(priorityClassName="batch", resources={"limits": {"nvidia.com/gpu": "1"}})
    usual = job(spec, SETTINGS)["spec"]["template"]
    for template in templates(made(spec)):
        assert template["metadata"]["labels"] == usual["metadata"]["labels"]
        theirs, ours = template["spec"], usual["spec"]
        assert theirs["restartPolicy"] == "Always"
        same = ours.keys() - {"restartPolicy", "subdomain", "containers"}
        assert {name: theirs[name] for name in same} == {name: ours[name] for name in same}
        assert "subdomain" not in theirs
        worker, usually = theirs["containers"][0], ours["containers"][0]
        alike = usually.keys() - {"command", "env"}
        assert {name: worker[name] for name in alike} == {name: usually[name] for name in alike}
        assert "MODELWRIGHT_HOSTS" not in env_of(template)
        assert env_of(template)["MODELWRIGHT_RUN"] == env_of(usual)["MODELWRIGHT_RUN"]
        # KubeRay gives its cluster a token of its own.
        assert not {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE"} & env_of(template).keys()


def test_a_users_probe_stays() -> None:
    probe = {"tcpSocket": {"port": 1}}
    override = {"spec": {"containers": [{"name": "worker", "livenessProbe": probe}]}}
    head, _ = templates(made(attempt(podTemplate=override)))
    assert head["spec"]["containers"][0]["livenessProbe"] == probe


def test_workers_are_numbered_from_one_and_the_head_is_the_first() -> None:
    head, worker = templates(made(attempt()))
    assert env_of(head)["JOB_COMPLETION_INDEX"] == "0"
    command = worker["spec"]["containers"][0]["command"]
    assert command[4 : 4 + len(LOGGED)] == list(LOGGED), "the log is kept under the number of the worker"
    shown = [*command[:4], "sh", "-c", "echo $JOB_COMPLETION_INDEX"]
    done = subprocess.run(shown, env={**os.environ, "MODELWRIGHT_REPLICA": "1"}, capture_output=True, check=True)
    assert done.stdout == b"2\n"


@pytest.fixture
def dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python of an image that has Ray's dashboard."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    return python


def pod_command(template: Object, shared: Path) -> list[str]:
    """Return what a pod without a log runs, with another place for what it writes, and nothing to wait for."""
    command = template["spec"]["containers"][0]["command"]
    *_, sh, option, script, name, log = command
    assert (sh, option) == ("sh", "-c")
    text = script.replace("/dev/shm", str(shared)).replace("sleep 2147483647", "echo waits")
    text = text.replace("/dev/termination-log", str(shared / "termination-log"))
    return [sh, option, text.replace("/opt/ray-dashboard", str(shared / "ray-dashboard")), name, log]


@pytest.mark.usefixtures("dashboard")
def test_a_container_starts_ray_as_kuberay_says_and_only_once(tmp_path: Path) -> None:
    _, worker = templates(made(attempt(image="mine", command=["true"])))
    generated = {"KUBERAY_GEN_RAY_START_CMD": """echo ray start --resources='{"a b": 1}'"""}
    command = pod_command(worker, tmp_path)
    # Shared memory that is the node's is that of the pods of the next attempt, too.
    first, again, another = (
        subprocess.run(command, env={**os.environ, **generated, **pod}, capture_output=True, text=True, check=True)
        for pod in ({"MODELWRIGHT_POD": uid} for uid in ("uid-1", "uid-1", "uid-2"))
    )
    assert first.stdout == another.stdout == 'ray start --resources={"a b": 1}\n'
    assert again.stdout == "waits\n"
    assert "has ended before" in again.stderr


def test_an_image_without_rays_dashboard_ends_the_job_with_what_to_do(tmp_path: Path, dashboard: Path) -> None:
    dashboard.write_text("#!/bin/sh\nexit 1\n")
    head, _ = templates(made(attempt(image="mine", command=["true"])))
    done = subprocess.run(pod_command(head, tmp_path), capture_output=True, check=False)
    assert done.returncode == 1
    said = Failure.model_validate_json((tmp_path / "termination-log").read_text())
    assert (said.reason, said.retryable) == ("RayDashboardMissing", False)
    assert "install ray[default]" in said.message


@pytest.mark.parametrize("own", [True, False])
def test_our_own_image_has_rays_dashboard_where_only_pods_of_a_ray_job_look(
    tmp_path: Path, dashboard: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    kept = tmp_path / "ray-dashboard"
    dashboard.write_text(f"#!/bin/sh\n[ {own:d} = 1 ] || case $PYTHONPATH in *{kept}) ;; *) exit 1;; esac\n")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setenv("KUBERAY_GEN_RAY_START_CMD", "echo $PYTHONPATH")
    _, worker = templates(made(attempt(image="mine", command=["true"])))
    done = subprocess.run(pod_command(worker, tmp_path), capture_output=True, text=True, check=True)
    assert done.stdout == ("/mine\n" if own else f"/mine:{kept}\n")
    # Where Python finds it, Ray is not the small one any more.
    usual = job(attempt(image="mine", command=["true"]), SETTINGS)
    assert "ray-dashboard" not in str(usual)


def test_the_image_puts_the_dashboard_where_pods_of_a_ray_job_look_for_it() -> None:
    assert "--target /opt/ray-dashboard --no-deps" in (ROOT / "images/Dockerfile").read_text()


@pytest.mark.usefixtures("dashboard")
def test_what_the_driver_prints_is_in_the_log_of_the_head(tmp_path: Path) -> None:
    head, _ = templates(made(attempt(image="mine", command=["true"])))
    *command, log = pod_command(head, tmp_path)
    assert log.startswith("/tmp/ray/session_latest/logs/job-driver-titanic-")
    prints = tmp_path / "driver.log"
    prints.write_text("step 1\n")
    env = {**os.environ, "KUBERAY_GEN_RAY_START_CMD": "sleep 30"}
    pod = subprocess.Popen([*command, str(prints)], env=env, stdout=subprocess.PIPE, start_new_session=True)
    with pod:
        assert pod.stdout is not None
        assert pod.stdout.readline() == b"step 1\n"
        os.killpg(pod.pid, signal.SIGKILL)


@pytest.mark.parametrize(("code", "message"), [(0, ""), (3, ""), (1, '{"reason": "DataInvalid"}')])
def test_the_driver_ends_as_its_program_and_its_last_line_is_what_it_left(
    tmp_path: Path, code: int, message: str
) -> None:
    left = tmp_path / "termination-log"
    left.write_text(message)
    command = ["sh", "-c", f'echo it\\\'s "$0"; exit {code}', "a b"]
    entrypoint = made(attempt(image="mine", command=command))["spec"]["entrypoint"]
    shell = ["sh", "-c", entrypoint.replace("/dev/termination-log", str(left))]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.split() == ["it's", "a", "b", *message.split()]
    assert done.stdout.rstrip().rpartition("\n")[2] == (message or "it's a b")


def test_the_driver_runs_what_a_job_runs() -> None:
    assert shlex.split(made(attempt())["spec"]["entrypoint"])[4:] == ["python", "-m", "modelwright.runtime.train"]


def test_a_suspended_or_queued_gang_waits_and_kueue_finds_its_label() -> None:
    assert made(attempt(suspend=True))["spec"]["suspend"] is True
    queued = made(attempt(owner(**{"kueue.x-k8s.io/queue-name": "gpus"})))
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


@pytest.mark.parametrize("name", ["a", "x" * 253, "1.b"])
def test_the_name_is_one_that_kuberay_takes(name: str) -> None:
    assert len(ray_job_name(owner(name), 1000)) <= 47


def test_the_version_that_kuberay_is_told_is_the_oldest_that_the_image_may_have() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rays = [entry for name in ("runtime", "kuberay") for entry in extras[name] if entry.startswith("ray[")]
    assert [rayjob.RAY_VERSION.startswith(entry.partition(">=")[2]) for entry in rays] == [True, True]
