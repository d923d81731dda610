"""What the driver makes of its workers, without a cluster."""

import os
from pathlib import Path

import pytest
from ray.exceptions import RayActorError
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from modelwright.api.run import PEER_LOST, Run
from modelwright.registry.errors import StoreError
from modelwright.runtime.cpus import cpu_limit
from modelwright.runtime.failure import DataError, RunError
from modelwright.runtime.train import main, ray_main
from modelwright.runtime.train.ray_main import _config_of, _root, _torch_config, _work, scaling_of
from modelwright.runtime.train.stop import terminated
from tests.unit.runtime_train.runs import run_of

LOST = RunError(PEER_LOST, "gone", retryable=True)
BAD = DataError("ColumnNotFound", "no column x")
DOWN = StoreError("down", retryable=True)


class Wrapped(Exception):  # noqa: N818 (it stands for what Ray makes of a worker's error)
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.base = cause


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ({0: BAD, 1: BAD}, BAD),
        ({0: LOST, 1: BAD}, BAD),
        ({0: LOST, 1: DOWN}, DOWN),
        ({0: Wrapped(LOST), 1: Wrapped(Wrapped(BAD))}, BAD),
        ({0: LOST}, LOST),
    ],
)
def test_the_cause_is_told_and_not_its_consequences(failures: dict[int, Exception], expected: Exception) -> None:
    assert _root(WorkerGroupError("failed", failures)) is expected


@pytest.mark.parametrize("error", [WorkerGroupError("x", {0: RayActorError()}), ControllerError(RayActorError())])
def test_a_lost_node_is_a_lost_peer(error: TrainingFailedError) -> None:
    root = _root(error)
    assert isinstance(root, RunError)
    assert (root.reason, root.retryable) == (PEER_LOST, True)


def test_what_nobody_foresaw_stays_what_it_is() -> None:
    error = WorkerGroupError("failed", {0: KeyError("x")})
    assert _root(error) is error


@pytest.mark.parametrize(("users", "expected"), [("", str(cpu_limit())), ("31", "31")])
def test_a_worker_has_the_threads_of_its_pod_and_not_of_rays_bookkeeping(
    monkeypatch: pytest.MonkeyPatch, users: str, expected: str
) -> None:
    run, seen = run_of(), []
    monkeypatch.setattr(main, "execute", lambda given: seen.append((given, os.environ.get("OMP_NUM_THREADS"))))
    monkeypatch.setenv("OMP_NUM_THREADS", users)
    config = _config_of(run)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what Ray makes of a worker with 0.01 CPUs
    _work(config)
    assert seen == [(run, expected)]


def test_beside_other_workers_of_its_pod_a_worker_keeps_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr(main, "execute", lambda run: seen.append(os.environ.get("OMP_NUM_THREADS")))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    config = _config_of(run_of(workers={"resources": {"limits": {"nvidia.com/gpu": "2"}}}))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    _work(config)
    assert seen == ["1"]


def test_a_worker_that_was_asked_to_leave_says_so_in_its_own_pod(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / str(os.getpid())).touch()
    message = tmp_path / "termination-log"
    message.write_text("did not fit")
    monkeypatch.setenv("MODELWRIGHT_STOP", str(tmp_path))
    monkeypatch.setattr(ray_main, "TERMINATION_MESSAGE_FILE", str(message))

    def leave(run: Run) -> None:
        raise terminated(40)

    monkeypatch.setattr(main, "execute", leave)
    with pytest.raises(RunError, match="saved at step 40"):
        _work(_config_of(run_of()))
    assert "saved at step 40" in message.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["termination-log"], "nothing saves here any more"


def test_a_worker_without_memory_is_told_before_those_that_it_took_along() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    full = OutOfMemoryError("CUDA out of memory")
    assert _root(WorkerGroupError("failed", {0: RayActorError(), 1: Wrapped(full)})) is full
    assert _root(WorkerGroupError("failed", {0: LOST, 1: full})) is full


@pytest.mark.parametrize(("enabled", "seconds"), [(True, 259200), (False, 1800)])
def test_a_collective_is_more_patient_than_who_watches_for_hangs(enabled: bool, seconds: int) -> None:
    config = _torch_config(run_of(hang={"enabled": enabled}))
    assert (config.backend, config.timeout_s) == ("gloo", seconds)


def test_every_pod_gets_one_worker_and_every_gpu_one(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = scaling_of(run_of(workers={"replicas": 3}))
    assert (spread.num_workers, spread.use_gpu, spread.placement_strategy) == (3, False, "STRICT_SPREAD")
    gpus = scaling_of(run_of(workers={"replicas": 3, "resources": {"limits": {"nvidia.com/gpu": "2"}}}))
    assert (gpus.num_workers, gpus.use_gpu) == (6, True)
    # A pod template may say otherwise, and the operator tells what came of it.
    monkeypatch.setenv("MODELWRIGHT_GPUS", "4")
    assert scaling_of(run_of(workers={"replicas": 3})).num_workers == 12
    monkeypatch.setenv("MODELWRIGHT_GPUS", "0")
    assert not scaling_of(run_of(workers={"replicas": 3})).use_gpu


HALF = {"numWorkers": 4, "resourcesPerWorker": {"gpu": 0.5, "cpu": 1}}
GPU = {"replicas": 2, "resources": {"limits": {"nvidia.com/gpu": "1"}}}


def test_workers_may_share_gpus_and_then_do_without_nccl() -> None:
    run = run_of(framework="Ray", ray=HALF, workers=GPU)
    asked = scaling_of(run)
    assert (asked.num_workers, asked.use_gpu, asked.placement_strategy) == (4, True, "SPREAD")
    assert asked.resources_per_worker == {"CPU": 1.0, "GPU": 0.5}
    assert _torch_config(run).backend == "gloo"


def test_a_part_of_a_gpu_in_a_pod_of_its_own_needs_no_other_way_to_talk() -> None:
    run = run_of(framework="Ray", ray={**HALF, "numWorkers": 2}, workers=GPU)
    assert scaling_of(run).placement_strategy == "STRICT_SPREAD"
    assert _torch_config(run).backend == "nccl"
    whole = run_of(framework="Ray", workers=GPU)
    assert (scaling_of(whole).placement_strategy, _torch_config(whole).backend) == ("PACK", "nccl")


@pytest.mark.parametrize(("ray", "expected"), [({"numWorkers": 4}, None), ({"resourcesPerWorker": {"cpu": 1}}, "1")])
def test_workers_of_one_pod_share_its_threads(
    monkeypatch: pytest.MonkeyPatch, ray: dict[str, object], expected: str | None
) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr(main, "execute", lambda run: seen.append(os.environ.get("OMP_NUM_THREADS")))
    monkeypatch.setattr(ray_main, "cpu_limit", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    config = _config_of(run_of(framework="Ray", ray=ray, workers={"replicas": 2}))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what Ray makes of a worker with a CPU or less
    _work(config)
    assert seen == [expected or "4"]


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
