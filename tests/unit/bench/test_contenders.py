"""What is compared is what a user would create, and alike where it can be."""

from typing import Any

import pytest

from e2e.bench import contenders, recovery_node, scaling
from e2e.bench.contenders import Setting, goodput, make, told
from e2e.bench.faults import Kind
from e2e.bench.watching import State
from modelwright.api.kinds import KINDS

SETTING = Setting("s3://bucket/bench/rows.parquet", "s3://bucket/bench", "http://s3:7070", "runtime:1", restarts=0)
SPEC = next(kind.spec for kind in KINDS if kind.kind == "TrainingJob")


@pytest.mark.parametrize("name", contenders.OURS)
def test_every_job_of_ours_is_one_that_the_api_knows(name: str) -> None:
    made = make(name, SETTING, f"{name}-1")
    assert (made.kind, made.title) == ("TrainingJob", f"{name}-1")
    spec = SPEC.model_validate(made.objects[0]["spec"])
    assert spec.checkpoint.every_seconds == SETTING.every
    assert spec.workers.replicas == SETTING.replicas


def container_of(name: str) -> dict[str, Any]:
    made = make(name, SETTING, "a")
    spec = made.objects[-1]["spec"]
    return dict(spec["workers"] if name == "loop" else spec["template"]["spec"]["containers"][0])


def test_the_loop_and_the_plain_job_run_the_same_program_with_the_same_means() -> None:
    loop, plain = container_of("loop"), container_of("plain")
    assert loop["command"] == plain["command"][-3:]
    assert loop["resources"] == plain["resources"]
    settings = {entry["name"]: entry["value"] for entry in loop["env"]}
    others = {entry["name"]: entry.get("value") for entry in plain["env"]}
    assert {**settings, "BENCH_KEEPER": "plain"}.items() <= others.items()


def test_torchrun_of_the_plain_job_may_restart_processes_as_often_as_that_of_the_loop() -> None:
    setting = Setting(SETTING.data, SETTING.storage, SETTING.endpoint, SETTING.image, restarts=3)
    plain = make("plain", setting, "a").objects[-1]["spec"]["template"]["spec"]["containers"][0]
    assert "--max-restarts=3" in plain["command"]
    assert make("loop", setting, "a").objects[0]["spec"]["failurePolicy"]["processRestarts"] == 3


def test_ray_train_runs_the_same_program_and_starts_it_again_itself() -> None:
    plain, alone = container_of("plain"), container_of("raytrain")
    assert alone["command"][-3:] == plain["command"][-3:]
    assert alone["resources"] == plain["resources"]
    settings = {entry["name"]: entry.get("value") for entry in alone["env"]}
    assert settings.items() >= {"BENCH_KEEPER": "raytrain", "BENCH_WORKERS": "2"}.items()
    assert make("raytrain", SETTING, "a").objects[-1]["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"


@pytest.mark.parametrize(
    ("name", "address"), [("plain", ["--rdzv-endpoint=a-0.a:29400"]), ("raytrain", ["a-0.a", "6379"])]
)
def test_the_pods_of_a_plain_job_find_each_other_by_its_service(name: str, address: list[str]) -> None:
    service, job = make(name, SETTING, "a").objects
    template = job["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert template["spec"]["subdomain"] == service["metadata"]["name"]
    assert {*address} <= {*template["spec"]["containers"][0]["command"]}


def status(at: float, **fields: Any) -> State:
    return State(at, {"status": fields})


def test_a_step_counts_from_when_it_was_first_heard_of() -> None:
    heard = [State(1.0, {}), status(2.0, progress={"step": 1}), status(3.0, progress={"step": 1}), status(4.0)]
    assert told([*heard, status(5.0, progress={"step": 7})]) == [(2.0, 1), (5.0, 7)]


def test_the_last_book_of_a_status_counts() -> None:
    assert goodput([status(1.0, goodput={"share": 0.5}), status(2.0, goodput={"share": 0.6}), status(3.0)]) == {
        "share": 0.6
    }
    assert goodput([State(1.0, {})]) == {}


@pytest.mark.parametrize(("cpus", "workers", "limit"), [(2, 1, "2"), (2, 2, "1"), (2, 4, "1"), (8, 4, "2")])
def test_workers_share_the_cpus_and_have_a_thread_each(cpus: int, workers: int, limit: str) -> None:
    assert scaling.cpu_limit(cpus, workers) == limit


def test_all_meet_all_faults_and_two_lose_a_node_for_the_others() -> None:
    met = {name: recovery_node.faults_of(name, [*Kind]) for name in contenders.NAMES}
    assert met.pop("recipe") == met.pop("plain") == [*Kind]
    assert all(kinds == [Kind.PROCESS, Kind.POD, Kind.HEAD, Kind.GANG] for kinds in met.values())


@pytest.mark.parametrize("name", contenders.NAMES)
def test_nobody_pulls_the_plug_of_a_cluster_of_others(name: str) -> None:
    assert Kind.NODE not in recovery_node.faults_of(name, [*Kind], local=False)
