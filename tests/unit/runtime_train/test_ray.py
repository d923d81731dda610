"""What the driver makes of its workers, and an actor of the agent that it starts, without a cluster."""

import logging
import os
import sys
from pathlib import Path

import pytest
from ray.exceptions import RayActorError, RayTaskError

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.ray import Scaling
from modelwright.api.run import PEER_LOST, TERMINATED, Failure
from modelwright.runtime.cpus import cpu_limit
from modelwright.runtime.failure import DataError, RunError, explain, guarded, write_failure
from modelwright.runtime.train import ray_main, rayworker
from modelwright.runtime.train.ray_main import root, scaling_of, starts, strategy_of
from modelwright.runtime.train.rayworker import Place, Program, Start, Worker
from tests.unit.runtime_train.runs import run_of

LOST = RunError(PEER_LOST, "gone", retryable=True)
BAD = DataError("ColumnNotFound", "no column x")
DOWN = RunError("StorageUnavailable", "down", retryable=True)


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([BAD, BAD], BAD),
        ([LOST, BAD], BAD),
        ([LOST, DOWN], DOWN),
        ([RayActorError(), DOWN], DOWN),
        ([LOST, DOWN, BAD], BAD),
        ([LOST], LOST),
    ],
)
def test_the_cause_is_told_and_not_its_consequences(failures: list[Exception], expected: Exception) -> None:
    assert root(failures) is expected


def test_a_lost_node_is_a_lost_peer() -> None:
    found = root([RayActorError()])
    assert isinstance(found, RunError)
    assert (found.reason, found.retryable) == (PEER_LOST, True)


def test_what_nobody_foresaw_stays_what_it_is() -> None:
    error = KeyError("x")
    assert root([error]) is error


def test_a_worker_without_memory_is_told_before_those_that_it_took_along() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    full = OutOfMemoryError("CUDA out of memory")
    assert root([RayActorError(), full]) is full
    assert root([LOST, full]) is full


def awaited(monkeypatch: pytest.MonkeyPatch, *rounds: list[Exception | None]) -> tuple[BaseException | None, int]:
    """Wait for workers that end in rounds, and return what is raised and how many of the rounds were waited for."""
    left = list(rounds)
    results = [result for each in rounds for result in each]

    def wait(waiting: list[object], timeout: float | None) -> tuple[list[object], list[object]]:
        assert waiting
        if timeout is not None and left[0] == []:
            left.pop(0)
            return [], waiting
        done = left.pop(0)
        return list(done), waiting[len(done) :]

    def get(result: Exception | None) -> None:
        if result is not None:
            raise result

    monkeypatch.setattr(ray_main.ray, "wait", wait)
    monkeypatch.setattr(ray_main.ray, "get", get)
    try:
        ray_main._await(results)
    except Exception as error:  # noqa: BLE001 (it is what is asked for)
        return error, len(rounds) - len(left)
    return None, len(rounds) - len(left)


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("train", "Traceback", cause, proctitle="worker", pid=1, ip="10.0.0.1")


def test_all_workers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert awaited(monkeypatch, [None], [None]) == (None, 2)


def test_the_first_that_tells_a_cause_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert awaited(monkeypatch, [task_error(BAD)], [None]) == (BAD, 1)


def test_who_has_lost_another_waits_for_what_that_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert awaited(monkeypatch, [task_error(LOST)], [task_error(BAD)], [None]) == (BAD, 2)
    assert awaited(monkeypatch, [task_error(LOST)], [], [None]) == (LOST, 2)


def test_what_an_actor_stumbles_over_is_no_lost_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    error = KeyError("x")
    assert awaited(monkeypatch, [task_error(error)]) == (error, 1)


class Group:
    """A placement group that is ready after so many looks, a minute each."""

    def __init__(self, looks: int = sys.maxsize) -> None:
        self.looks, self.tries = looks, 0

    def wait(self, seconds: float) -> bool:
        self.tries += 1
        return self.tries > self.looks


def pods(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float]) -> None:
    """Let Ray see pods with these resources, `pod 1`, `pod 2` and so on, and one that is lost."""
    nodes = [{"NodeID": str(number), "Alive": True, "Resources": each} for number, each in enumerate(resources, 1)]
    monkeypatch.setattr(ray_main.ray, "nodes", lambda: [*nodes, {"NodeID": "0", "Alive": False, "Resources": {}}])
    monkeypatch.setattr(ray_main, "_on_node", lambda _, node: (f"pod {node}", f"node {node}"))
    monkeypatch.setattr(ray_main, "_answers", lambda results, _: results)


def gang_of(pods: int, **ray: object) -> Scaling:
    return scaling_of(run_of(framework="Ray", workers={**GPU, "replicas": pods}, ray=ray))


def test_pods_that_have_no_node_yet_are_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pods(monkeypatch, {"GPU": 1}, {"GPU": 1})
    caplog.set_level(logging.INFO)
    ray_main.await_room(Group(1000), gang_of(3), 2100, placed=lambda: False)
    assert set(caplog.messages) == {"waiting for room for all workers: 2 of 3 pods are here"}


def test_pods_that_have_their_nodes_and_do_not_join_are_a_failure_that_another_attempt_may_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pods(monkeypatch, {"GPU": 1}, {"GPU": 1})
    group = Group()
    with pytest.raises(RunError, match="2 of 3 pods joined the Ray cluster within 2100 s") as caught:
        ray_main.await_room(group, gang_of(3), 2100, placed=lambda: group.tries > 1000)
    assert group.tries == 1000 + 35
    failure = explain(caught.value)
    assert (failure.reason, failure.retryable, failure.node) == ("WorkersMissing", True, "")


def test_a_pod_in_which_ray_sees_too_few_gpus_is_named_when_all_pods_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWRIGHT_GPUS", "2")
    pods(monkeypatch, {"GPU": 2, "CPU": 8}, {"GPU": 1, "CPU": 8})
    with pytest.raises(RunError) as caught:
        ray_main.await_room(Group(), gang_of(2), 2100)
    failure = explain(caught.value)
    assert failure.message == "there is no room for 4 workers: pod 2: GPU: Ray sees 1 of 2"
    assert (failure.reason, failure.retryable, failure.node) == ("PreflightFailed", True, "node 2")
    assert failure.failure_class is FailureClass.INFRASTRUCTURE


def test_of_many_pods_in_which_ray_sees_too_little_some_are_named_and_no_node_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pods(monkeypatch, *[{"CPU": 1.0}] * 7)
    with pytest.raises(RunError) as caught:
        ray_main.await_room(Group(), gang_of(7, resourcesPerWorker={"gpu": 0.5, "cpu": 1}), 2100)
    failure = explain(caught.value)
    assert failure.message.startswith("there is no room for 14 workers: pod 1: CPU: Ray sees 1 of 2, GPU: Ray sees 0 ")
    assert failure.message.endswith("; pod 5: CPU: Ray sees 1 of 2, GPU: Ray sees 0 of 1; and 2 more")
    assert failure.node == ""


def test_ray_has_the_time_to_place_workers_on_the_pod_that_came_last(monkeypatch: pytest.MonkeyPatch) -> None:
    pods(monkeypatch, {"GPU": 1}, {"GPU": 1})
    ray_main.await_room(Group(1), gang_of(2), 2100)
    with pytest.raises(RunError):
        ray_main.await_room(Group(2), gang_of(2), 2100)


def program(code: str, message: Path | None = None) -> Program:
    return Program((sys.executable, "-c", code), str(message or "/nonexistent"))


def test_an_actor_tells_what_its_agent_has_left_and_the_driver_the_same(tmp_path: Path) -> None:
    message, told = tmp_path / "message", tmp_path / "told"
    told.write_text("")
    said = Failure(
        reason="Hang", message="no step", retryable=True, failure_class=FailureClass.HANG, step=7, node="node-1"
    )
    write_failure(said, message)
    worker = Worker()
    with pytest.raises(RunError) as caught:
        worker.train(program("exit(1)", message), Start(()))
    assert explain(caught.value) == said
    assert guarded(lambda: worker.train(program("exit(1)", message), Start(())), told) == 1
    assert Failure.model_validate_json(told.read_text()) == said


def test_a_driver_whose_workers_were_asked_to_leave_leaves_as_they_do(tmp_path: Path) -> None:
    message, told = tmp_path / "message", tmp_path / "told"
    write_failure(Failure(reason=TERMINATED, message="saved at step 40", retryable=True), message)
    assert guarded(lambda: Worker().train(program("exit(1)", message), Start(())), told) == 143


@pytest.mark.parametrize(
    ("code", "words"),
    [("exit(3)", "ended with exit code 3"), ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL")],
)
def test_an_agent_that_has_said_nothing_is_told_by_its_end(code: str, words: str) -> None:
    with pytest.raises(RunError, match=words):
        Worker().train(program(code), Start(()))


def threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: str | None, *, pods: int = 1, **spec: object
) -> str:
    """Return the threads that an agent is told, of which Ray has made one."""
    run = run_of(**spec)
    if users is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", users)
    else:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    places = [Place("a", "10.0.0.1")] * scaling_of(run).workers
    (start, *_) = starts(run, scaling_of(run), places)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what Ray makes of a worker with a CPU or less
    out = tmp_path / "threads"
    write = f"import os; open({str(out)!r}, 'w').write(os.environ['OMP_NUM_THREADS'])"
    Worker().train(program(write), Start((), start.environment, start.beside))
    return out.read_text()


@pytest.mark.parametrize(("users", "expected"), [(None, str(cpu_limit())), ("31", "31")])
def test_a_worker_has_the_threads_of_its_pod_and_not_of_rays_bookkeeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: str | None, expected: str
) -> None:
    assert threads(tmp_path, monkeypatch, users) == expected


@pytest.mark.parametrize(("ray", "expected"), [({"numWorkers": 4}, "4"), ({"resourcesPerWorker": {"cpu": 1}}, "1")])
def test_workers_of_one_pod_share_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr(rayworker, "cpu_limit", lambda: 9)
    found = threads(tmp_path, monkeypatch, None, framework="Ray", ray=ray, workers={"replicas": 2})
    assert found == expected


def test_every_pod_gets_one_worker_and_every_gpu_one(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = scaling_of(run_of(workers={"replicas": 3}))
    assert (spread.workers, spread.gpu, strategy_of(spread)) == (3, 0, "STRICT_SPREAD")
    gpus = scaling_of(run_of(workers={"replicas": 3, "resources": {"limits": {"nvidia.com/gpu": "2"}}}))
    assert (gpus.workers, gpus.gpu) == (6, 1)
    # A pod template may say otherwise, and the operator tells what came of it.
    monkeypatch.setenv("MODELWRIGHT_GPUS", "4")
    assert scaling_of(run_of(workers={"replicas": 3})).workers == 12
    monkeypatch.setenv("MODELWRIGHT_GPUS", "0")
    assert not scaling_of(run_of(workers={"replicas": 3})).gpu


HALF = {"numWorkers": 4, "resourcesPerWorker": {"gpu": 0.5, "cpu": 1}}
GPU = {"replicas": 2, "resources": {"limits": {"nvidia.com/gpu": "1"}}}


def environments(places: list[Place], **spec: object) -> list[dict[str, str]]:
    run = run_of(**spec)
    found = [dict(start.environment) for start in starts(run, scaling_of(run), places)]
    return [{name: value for name, value in each.items() if name != "MODELWRIGHT_RUN"} for each in found]


def test_workers_may_share_gpus_and_then_do_without_nccl() -> None:
    run = run_of(framework="Ray", ray=HALF, workers=GPU)
    asked = scaling_of(run)
    assert (asked.workers, strategy_of(asked)) == (4, "SPREAD")
    assert asked.resources == {"CPU": 1.0, "GPU": 0.5}
    places = [Place(node, address, ("0",)) for node, address in (("a", "1"), ("a", "1"), ("b", "2"), ("b", "2"))]
    shared = {"CUDA_VISIBLE_DEVICES": "0", "MODELWRIGHT_DEVICE": "0", "MODELWRIGHT_BACKEND": "gloo"}
    assert environments(places, framework="Ray", ray=HALF, workers=GPU) == [shared] * 4


def test_a_part_of_a_gpu_in_a_pod_of_its_own_needs_no_other_way_to_talk() -> None:
    spec = {"framework": "Ray", "ray": {**HALF, "numWorkers": 2}, "workers": GPU}
    places = [Place("a", "1", ("0",)), Place("b", "2", ("0",))]
    assert strategy_of(scaling_of(run_of(**spec))) == "STRICT_SPREAD"
    assert environments(places, **spec) == [{"CUDA_VISIBLE_DEVICES": "0", "MODELWRIGHT_DEVICE": "0"}] * 2
    assert strategy_of(scaling_of(run_of(framework="Ray", workers=GPU))) == "PACK"


def test_a_worker_sees_the_gpus_of_its_pod_and_takes_its_own() -> None:
    spec = {"framework": "Ray", "workers": {"replicas": 2, "resources": {"limits": {"nvidia.com/gpu": "2"}}}}
    places = [Place("a", "1", ("1",)), Place("b", "2", ("0",)), Place("a", "1", ("0",)), Place("b", "2", ("1",))]
    found = environments(places, **spec)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["0,1"] * 4
    assert [each["MODELWRIGHT_DEVICE"] for each in found] == ["1", "0", "0", "1"]


def test_a_worker_that_is_to_train_on_cpus_sees_no_gpu_of_its_pod() -> None:
    places = [Place("a", "1"), Place("b", "2")]
    on_cpus = {"resourcesPerWorker": {"gpu": 0}}
    assert environments(places, framework="Ray", ray=on_cpus, workers=GPU) == [{"CUDA_VISIBLE_DEVICES": "-1"}] * 2


def test_the_agents_meet_at_the_first_worker() -> None:
    run = run_of(framework="Ray", workers={"replicas": 2})
    first, second = starts(run, scaling_of(run), [Place("b", "10.0.0.2"), Place("a", "10.0.0.1")])
    assert "--rdzv-endpoint=10.0.0.2:29400" in first.arguments
    assert "--rdzv-endpoint=10.0.0.2:29400" in second.arguments
    assert any("is_host=1" in each for each in first.arguments)
    assert any("is_host=0" in each for each in second.arguments)
    assert "--local-addr=10.0.0.1" in second.arguments, "a pod of KubeRay has no name that others know"


@pytest.mark.parametrize(("policy", "expected"), [({}, 3), ({"processRestarts": 0}, 0), ({"processRestarts": 9}, 9)])
def test_processes_start_again_as_often_as_without_ray(policy: dict[str, object], expected: int) -> None:
    run = run_of(framework="Ray", failurePolicy=policy)
    (start,) = starts(run, scaling_of(run), [Place("a", "1")])
    assert f"--max-restarts={expected}" in start.arguments


def test_a_driver_that_is_asked_to_stop_waits_for_those_who_save(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODELWRIGHT_STOP", str(tmp_path))
    (tmp_path / str(os.getpid())).touch()
    ray_main._on_stop(15, None)
    assert (tmp_path / "asked").exists()
    (tmp_path / str(os.getpid())).unlink()
    with pytest.raises(SystemExit) as left:
        ray_main._on_stop(15, None)
    assert left.value.code == 143
