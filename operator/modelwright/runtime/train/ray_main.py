"""The same run under Ray: this process drives, Ray Train's workers do what torchrun's processes do.

Ray brings the workers together and takes their errors home. Checkpoints, results and versions are ours, on S3, exactly
as under torchrun, so a job may change its framework between two attempts; nothing of Ray's is kept.
"""

import os
import signal
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

import ray
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from modelwright.api.processes import gpus
from modelwright.api.ray import Pods, Scaling, scaling
from modelwright.api.run import PEER_LOST, TERMINATED, TERMINATION_MESSAGE_FILE, Run
from modelwright.api.variables import GPUS_VARIABLE
from modelwright.registry.errors import StoreError
from modelwright.runtime.cpus import cpu_limit
from modelwright.runtime.failure import RunError, explain, out_of_memory, write_failure
from modelwright.runtime.hang import COLLECTIVE_TIMEOUT
from modelwright.runtime.train import main, stop

_THREADS = "OMP_NUM_THREADS"


def drive(run: Run) -> None:
    """Run the workers of a job on the Ray cluster of this gang and wait for them. Raises `RunError` or `StoreError`."""
    ray.init(address="auto", log_to_driver=True)
    if run.training.ray is not None and run.training.ray.kuberay:
        # Under a Ray job the driver is asked to stop itself; else the shell around it waits until nobody saves.
        signal.signal(signal.SIGTERM, _on_stop)
    try:
        with tempfile.TemporaryDirectory(prefix="ray-train-") as storage:
            fit(run, storage)
    finally:
        ray.shutdown()


def fit(run: Run, storage: str) -> None:
    """Run the workers on the cluster that this process is connected to. `storage` is for Ray's own bookkeeping."""
    # Ray's own limit of a minute is short for workers that have torch to import on a busy node.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    trainer = TorchTrainer(
        _work,
        train_loop_config=_config_of(run),
        torch_config=_torch_config(run),
        scaling_config=scaling_of(run),
        # A new attempt of the gang is the operator's decision; Ray makes none of its own.
        run_config=RunConfig(
            name=f"{run.uid}-{run.attempt}", storage_path=storage, failure_config=FailureConfig(max_failures=0)
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _root(error) from error


def scaling_of(run: Run) -> ScalingConfig:
    """Return what Ray is to start: without a wish one worker a pod, or one a GPU where pods have them."""
    wanted = _wanted(run)
    # One that has a GPU or more for itself may share its pod; others are better apart, as far as there are pods.
    apart = "STRICT_SPREAD" if wanted.spread else "SPREAD"
    return ScalingConfig(
        num_workers=wanted.workers,
        use_gpu=wanted.gpu > 0,
        resources_per_worker=wanted.resources,
        placement_strategy="PACK" if wanted.gpu >= 1 else apart,
    )


def _wanted(run: Run) -> Scaling:
    workers = run.training.workers
    # The operator tells what the pods of this gang have; a pod template may have changed that.
    devices = int(os.environ.get(GPUS_VARIABLE) or gpus(workers.resources.limits))
    return scaling(run.training.ray, Pods(workers.replicas, devices))


def _torch_config(run: Run) -> TorchConfig:
    wanted = _wanted(run)
    config = TorchConfig(backend="nccl" if wanted.gpu and not wanted.shares_gpus else "gloo")
    if run.training.hang.enabled:
        config.timeout_s = int(COLLECTIVE_TIMEOUT.total_seconds())
    return config


def _config_of(run: Run) -> dict[str, str]:
    return {"run": run.model_dump_json(by_alias=True), "threads": os.environ.get(_THREADS, "")}


def _work(config: dict[str, str]) -> None:
    run = Run.model_validate_json(config["run"])
    wanted = _wanted(run)
    if not wanted.gpu and wanted.cpu is None:
        # Ray takes the little that the worker is placed by for all that it may use. What holds is what the user asked
        # for, or the worker's share of the pod's own limit.
        beside = -(-wanted.workers // wanted.pods)
        os.environ[_THREADS] = config["threads"] or str(max(1, cpu_limit() // beside))
    try:
        main.execute(run)
    except RunError as error:
        message = Path(TERMINATION_MESSAGE_FILE)
        if error.reason == TERMINATED and message.exists():
            # The driver tells of it in its own pod. The one that is asked to leave may be this one.
            write_failure(explain(error), message)
        raise
    finally:
        stop.withdraw()


def _on_stop(number: int, frame: FrameType | None) -> None:
    """Let those who save in this pod do so: they tell the others, and that they have left ends the driver."""
    if not stop.ask():
        raise SystemExit(stop.EXIT_TERMINATED)


def _root(error: Exception) -> Exception:
    """Return what a worker failed of itself, before what the others failed of because of it."""
    failures: list[Exception] = [error]
    if isinstance(error, WorkerGroupError):
        failures = list(error.worker_failures.values())
    known = [cause for failure in failures for cause in _causes(failure)]
    ours: list[RunError | StoreError] = [cause for cause in known if isinstance(cause, RunError | StoreError)]
    ours.sort(key=lambda cause: (cause.retryable, isinstance(cause, RunError) and cause.reason == PEER_LOST))
    full = [cause for cause in known if isinstance(cause, Exception) and out_of_memory(cause)]
    found = [*(cause for cause in ours if not cause.retryable), *full, *ours]
    if found:
        return found[0]
    if any(isinstance(cause, RayError) for cause in known):
        return RunError(PEER_LOST, "A Ray worker or its node was lost", retryable=True)
    return error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it was made from: Ray wraps what workers raise."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__, *_wrapped(current)]


def _wrapped(error: BaseException) -> Iterable[BaseException]:
    return [value for value in vars(error).values() if isinstance(value, BaseException)]
