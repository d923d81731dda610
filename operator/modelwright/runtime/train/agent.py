"""torchrun, but processes start again in their pod only where that can help: when a signal killed one of them.

What a process has said itself (wrong data, a loss that is no number, a hang) ends the pod, as it does under torchrun
with no restarts: whether there is a new attempt is for the operator's budgets to decide.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from torch.distributed import run
from torch.distributed.elastic.agent.server import RunResult, WorkerGroup, WorkerState, local_elastic_agent
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import api

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.run import PEER_LOST, TERMINATED, Failure
from modelwright.runtime import failure
from modelwright.runtime.failure import shortened
from modelwright.runtime.train import rendezvous
from modelwright.runtime.train.agentstore import connect_to
from modelwright.runtime.train.forked import start_processes
from modelwright.runtime.train.together import is_done

logger = logging.getLogger(__name__)

_FOLLOWS = frozenset({PEER_LOST, TERMINATED})
"""Reasons that processes give when others have died, or the agent clears them away."""
_WAIT_SECONDS = 30
_STORE_TIMEOUT = timedelta(seconds=5)
_NO_PROGRAM = "-"
_ENDED = "modelwright/agents-ended"
_PATIENCE_SECONDS, _PAUSE_SECONDS = 300.0, 0.1
_MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")


def curable(reason: str | None, exit_codes: Iterable[int]) -> bool:
    """Tell whether processes that start again in their pod can go on, by what these said and how they ended.

    `reason`: of the failure that they left, if they did. `exit_codes`: of those that failed, negative after a signal.
    """
    codes = list(exit_codes)
    if reason is None:
        return all(code < 0 for code in codes)
    # Asked to leave by a peer, the whole gang leaves; by its agent, because the process beside it was killed.
    return reason == PEER_LOST or (reason == TERMINATED and any(code < 0 and code != -signal.SIGTERM for code in codes))


def last_words(exit_codes: Iterable[int], *, out_of_memory: bool) -> Failure | None:
    """Return what there is to say of processes that said nothing themselves; None where they ended on their own."""
    if out_of_memory:
        said = "The kernel killed a process for want of memory: raise workers.resources.limits.memory"
        found = shortened("OutOfMemory", said, retryable=True)
        return found.model_copy(update={"failure_class": FailureClass.OUT_OF_MEMORY})
    signals = {-code for code in exit_codes if code < 0}
    if not signals - {signal.SIGTERM}:
        return None
    names = ", ".join(sorted(signal.Signals(number).name for number in signals))
    found = shortened("ProcessKilled", f"{names} ended a process, and it said nothing", retryable=True)
    # Nobody sends himself one of these: a bug ends in SIGSEGV, SIGABRT and the like.
    outside = signals <= {signal.SIGKILL, signal.SIGTERM}
    return found.model_copy(update={"failure_class": FailureClass.INFRASTRUCTURE}) if outside else found


def memory_kills(events: Path = _MEMORY_EVENTS) -> int:
    """Return how many processes of this container the kernel has killed for want of memory (cgroup v2)."""
    try:
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


class Agent(LocalElasticAgent):  # type: ignore[misc]
    """Starts the processes of one pod, and starts them again when all agents of the gang do."""

    _restarts = 0

    def __init__(self, *args: Any, met: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._met = met
        self._memory_kills = memory_kills()

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if result.state is not WorkerState.FAILED:
            return result
        codes = [each.exitcode for each in result.failures.values()]
        out_of_memory = memory_kills() > self._memory_kills
        if not out_of_memory and curable(failure.said(), codes):
            if self._is_done(worker_group):
                logger.warning("a process was killed when there was nothing left to do")
                # torch looks up what each of them returned.
                returned = {worker.global_rank: None for worker in worker_group.workers}
                return RunResult(state=WorkerState.SUCCEEDED, return_values=returned)
        else:
            self._remaining_restarts = 0
        said = last_words(codes, out_of_memory=out_of_memory)
        if self._remaining_restarts == 0 and said is not None and failure.said() in {None, *_FOLLOWS}:
            failure.write_failure(said)
        return result

    def _exit_barrier(self) -> None:
        """Stay until all agents are done, for the first one keeps the store of all.

        torch waits in C, where no signal is heard: with a peer that is lost, until its pod is killed.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        try:
            ended = self._store.add(_ENDED, 1)
            while ended < self._worker_group.group_world_size and time.monotonic() < deadline:
                time.sleep(_PAUSE_SECONDS)
                ended = self._store.add(_ENDED, 0)
        except SignalException:
            logger.warning("asked to leave when all was done here; another pod is not done, or lost")
        except RuntimeError as error:  # torch's own are of this kind
            logger.info("the pod that keeps the store has gone: %s", error)

    def _is_done(self, worker_group: WorkerGroup) -> bool:
        try:
            store = connect_to(worker_group.master_addr, worker_group.master_port, _STORE_TIMEOUT)
            return is_done(store, self._restarts)
        except RuntimeError as error:  # torch's own are of this kind
            logger.warning("the store does not answer: %s", error)
            return False

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        # For good: they have lost a peer, and SIGTERM would have them save and say that the pod was asked to leave.
        self._shutdown(signal.SIGKILL, _WAIT_SECONDS)
        reason = failure.said()
        if reason not in {None, *_FOLLOWS}:
            raise RuntimeError(f"a process has ended with {reason} meanwhile")
        if reason is None and worker_group.state is WorkerState.HEALTHY:
            # Only the agent of another pod wanted this: it is not this pod that is to blame, if nothing comes of it.
            failure.write_failure(shortened(PEER_LOST, "The processes of another pod ended", retryable=True))
        # Counted here, so that all agents count alike: torch does not count what another one asked for.
        self._restarts += 1
        self._remaining_restarts = max(0, worker_group.spec.max_restarts - self._restarts)
        logger.warning("processes start again in their pod: %d of %d", self._restarts, worker_group.spec.max_restarts)
        super()._restart_workers(worker_group)

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, object]:
        # Not before all have come together: who waits in vain says still that it has lost a peer.
        self._met()
        failure.forget(_FOLLOWS)
        started: dict[int, object] = super()._start_workers(worker_group)
        return started


def launch(arguments: Sequence[str], work: Callable[[], None], met: Callable[[], None]) -> int:
    """Do what torchrun does with the arguments and return the exit code.

    Every process calls `work`, and has failed when that does not return. `met` is called when the agents have found
    each other, and before the processes start.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # torchrun wants the name of a program, though it can start a function as well.
    config, _, _ = run.config_from_args(run.parse_args([*arguments, _NO_PROGRAM]))
    # The launcher has no other way to be given an agent, nor the agent to be given another way to start processes.
    api.LocalElasticAgent = partial(Agent, met=met)
    local_elastic_agent.start_processes = start_processes
    rendezvous.look_often(config.max_nodes)
    try:
        api.elastic_launch(config, work)()
    except (ChildFailedError, SignalException) as error:
        # The process itself has told what it was.
        logger.error("%s", str(error).strip())  # noqa: TRY400
        return 1
    except Exception:
        logger.exception("the processes could not be brought together")
        return 1
    return os.EX_OK
