"""The same run under Ray: this process drives, and Ray's actors do what the pods of a gang do without it.

Ray places the workers, gives each what it takes, and brings their errors home. Processes, checkpoints, results and
versions are ours, exactly as under torchrun, so a job may change its framework between two attempts; nothing of Ray's
is kept.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from modelwright.api.failurepolicy import PROCESS_RESTARTS
from modelwright.api.processes import RENDEZVOUS_PORT, agent_arguments, gpus, patience
from modelwright.api.ray import Pods, Scaling, scaling
from modelwright.api.run import PEER_LOST, PREFLIGHT_FAILED, RUN_VARIABLE, Run
from modelwright.api.variables import BACKEND_VARIABLE, DEVICE_VARIABLE, GPUS_VARIABLE, THREADS_VARIABLE
from modelwright.runtime import preflight
from modelwright.runtime.failure import EXIT_TERMINATED, RunError, guarded, on_node, out_of_memory
from modelwright.runtime.train import stop
from modelwright.runtime.train.rayworker import VISIBLE_GPUS, Place, Program, Start, Worker, whereabouts

logger = logging.getLogger(__name__)

_SAY_EVERY = 60.0
_NAMED = 5
_START_SECONDS = 600
"""For agents, which import torch on a busy node, to find each other. Their pods are there by then."""
_REST_SECONDS = 3.0
"""What one worker says of another may come first: so long does the other have to tell of itself."""


def main() -> None:
    """Run what MODELWRIGHT_RUN says and exit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    sys.exit(guarded(lambda: drive(Run.model_validate_json(os.environ[RUN_VARIABLE]))))


def drive(run: Run) -> None:
    """Run the workers of a job on the Ray cluster of this gang and wait for them. Raises `RunError`."""
    ray.init(address="auto", log_to_driver=True)
    if run.training.ray is not None and run.training.ray.kuberay:
        # Under a Ray job the driver is asked to stop itself; else the shell around it waits until nobody saves.
        signal.signal(signal.SIGTERM, _on_stop)
    try:
        train(run)
    finally:
        ray.shutdown()


def train(run: Run, program: Program | None = None, port: int = RENDEZVOUS_PORT) -> None:
    """Run the workers on the cluster that this process is connected to.

    `program`: what each of them starts, and `port`: where their agents meet. Raises `RunError`.
    """
    wanted = scaling_of(run)
    group = placement_group([wanted.resources] * wanted.workers, strategy=strategy_of(wanted))
    await_room(group, wanted, patience(run.training.failure_policy.startup_timeout_seconds))
    workers = [_worker(group, index, wanted) for index in range(wanted.workers)]
    places: list[Place] = _answers([worker.place.remote() for worker in workers])
    started = zip(workers, starts(run, wanted, places, port), strict=True)
    _await([worker.train.remote(program or Program(), start) for worker, start in started])


def await_room(
    group: PlacementGroup, wanted: Scaling, patience: float, placed: Callable[[], bool] = preflight.all_placed
) -> None:
    """Wait until there is room for all workers, without end: a pod without a node may get one at any time.

    Raises `RunError`: PreflightFailed where all pods are here and there is none, WorkersMissing where some are not
    here though all have been `placed` on nodes for `patience` seconds.
    """
    here, waited = 0, 0.0
    while not group.wait(_SAY_EVERY):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        # Ray has had the time to place workers on the last one that came.
        before, here = here, len(nodes)
        if min(before, here) >= wanted.pods:
            raise _without_room(wanted, nodes)
        logger.info("waiting for room for all workers: %d of %d pods are here", here, wanted.pods)
        waited += _SAY_EVERY * placed()
        if waited >= patience:
            message = f"{here} of {wanted.pods} pods joined the Ray cluster within {patience:.0f} s"
            raise _of_the_gang("WorkersMissing", message)


def _without_room(wanted: Scaling, nodes: Sequence[Mapping[str, Any]]) -> RunError:
    """Return the failure that names the pods in which Ray sees less than their share of the workers takes."""
    found = {node["NodeID"]: lacking for node in nodes if (lacking := _lacking(wanted, node["Resources"]))}
    asked = [_on_node(whereabouts, node) for node in list(found)[:_NAMED]]
    places: list[tuple[str, str]] = _answers(asked, _START_SECONDS)
    each = [f"{who}: {lacking}" for (who, _), lacking in zip(places, found.values(), strict=False)]
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    message = f"there is no room for {wanted.workers} workers: {'; '.join(each)}{more}"
    return _of_the_gang(PREFLIGHT_FAILED, message, places[0][1] if len(found) == 1 else "")


def _lacking(wanted: Scaling, seen: Mapping[str, float]) -> str:
    """Return what a pod has too little of, as `GPU: Ray sees 1 of 2`; empty where it has room for its share."""
    short = {name: count for name, count in wanted.needed.items() if seen.get(name, 0) < count}
    return ", ".join(f"{name}: Ray sees {seen.get(name, 0):g} of {count}" for name, count in short.items())


def _of_the_gang(reason: str, message: str, node: str = "") -> RunError:
    """Return a failure for which the node of the driver, who tells it, is not to blame, but another or none."""
    error = RunError(reason, message, retryable=True)
    on_node(error, node)
    return error


def scaling_of(run: Run) -> Scaling:
    """Return what Ray is to start: without a wish one worker a pod, or one a GPU where pods have them."""
    workers = run.training.workers
    # The operator tells what the pods of this gang have; a pod template may have changed that.
    devices = int(os.environ.get(GPUS_VARIABLE) or gpus(workers.resources.limits))
    return scaling(run.training.ray, Pods(workers.replicas, devices))


def strategy_of(wanted: Scaling) -> str:
    """Return how Ray is to place the workers."""
    if wanted.gpu >= 1:
        # One that has a GPU or more for itself may share its pod; others are better apart, as far as there are pods.
        return "PACK"
    return "STRICT_SPREAD" if wanted.spread else "SPREAD"


def starts(run: Run, wanted: Scaling, places: Sequence[Place], port: int = RENDEZVOUS_PORT) -> list[Start]:
    """Return what each worker is started with; the first one's agent keeps the store of all."""
    restarts = run.training.failure_policy.process_restarts
    shared = agent_arguments(
        agents=len(places),
        processes="1",
        restarts=PROCESS_RESTARTS if restarts is None else restarts,
        meet_at=f"{places[0].address}:{port}",
        gang=f"{run.uid}-{run.attempt}",
    )
    # Ray's share of the CPUs counts where one was asked for; where there are GPUs, threads do little.
    found = []
    for index, place in enumerate(places):
        meeting = f"is_host={int(index == 0)},join_timeout={_START_SECONDS},read_timeout={_START_SECONDS}"
        arguments = [*shared, f"--rdzv-conf={meeting}", f"--local-addr={place.address}"]
        found.append(Start(arguments, _environment(run, wanted, place, places), wanted.beside))
    return found


def _environment(run: Run, wanted: Scaling, place: Place, places: Sequence[Place]) -> dict[str, str]:
    environment = {RUN_VARIABLE: run.model_dump_json(by_alias=True)}
    if asked := os.environ.get(THREADS_VARIABLE):
        environment[THREADS_VARIABLE] = asked
    if not wanted.gpu:
        # Of a pod's GPUs Ray hides none from who asks for none.
        environment[VISIBLE_GPUS] = "-1"
    if wanted.shares_gpus:
        environment[BACKEND_VARIABLE] = "gloo"
    if place.gpus:
        # NCCL reaches the GPU of another process only where this one sees it too, as Ray Train knows.
        visible = sorted({gpu for other in places if other.node == place.node for gpu in other.gpus})
        environment |= {VISIBLE_GPUS: ",".join(visible), DEVICE_VARIABLE: str(visible.index(place.gpus[0]))}
    return environment


def _worker(group: PlacementGroup, index: int, wanted: Scaling) -> Any:
    where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    each = {"num_cpus": wanted.resources.get("CPU", 0), "num_gpus": wanted.gpu}
    # A new attempt of the gang is the operator's decision; Ray makes none of its own.
    return ray.remote(max_restarts=0, scheduling_strategy=where, **each)(Worker).remote()


def _on_node(function: Callable[[], Any], node: str) -> Any:
    """Start a function on a node of Ray's, beside whatever runs there."""
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=where)(function).remote()


def _answers(results: Sequence[Any], seconds: float | None = None) -> list[Any]:
    """Return what workers say when they begin. Raises `RunError`."""
    try:
        found: list[Any] = ray.get(results, timeout=seconds)
    except RayError as error:
        raise root([_original(error)]) from error
    return found


def _await(results: Sequence[Any]) -> None:
    """Wait for all workers, or until it is known why one of them failed. Raises `RunError`, or what nobody foresaw."""
    waiting, failures = list(results), list[Exception]()
    while waiting:
        done, waiting = ray.wait(waiting, timeout=_REST_SECONDS if failures else None)
        for result in done:
            try:
                ray.get(result)
            except RayError as error:
                failures.append(_original(error))
        if failures and (not done or not _is_consequence(root(failures))):
            break
    if failures:
        found = root(failures)
        raise found from (None if found in failures else failures[0])


def _is_consequence(error: Exception) -> bool:
    return isinstance(error, RunError) and error.reason == PEER_LOST


def root(failures: Sequence[Exception]) -> Exception:
    """Return what a worker failed of itself, before what the others failed of because of it."""
    ours = [failure for failure in failures if isinstance(failure, RunError)]
    ours.sort(key=lambda failure: (failure.retryable, failure.reason == PEER_LOST))
    full = [failure for failure in failures if out_of_memory(failure)]
    found = [*(failure for failure in ours if not failure.retryable), *full, *ours]
    if found:
        return found[0]
    if any(isinstance(failure, RayError) for failure in failures):
        return RunError(PEER_LOST, "A Ray worker or its node was lost", retryable=True)
    return failures[0]


def _original(error: RayError) -> Exception:
    """Return what an actor raised, or that it is lost."""
    cause: Exception = error.cause if isinstance(error, RayTaskError) else error
    return cause


def _on_stop(number: int, frame: FrameType | None) -> None:
    """Let those who save in this pod do so: they tell the others, and that they have left ends the driver."""
    if not stop.ask():
        raise SystemExit(EXIT_TERMINATED)
