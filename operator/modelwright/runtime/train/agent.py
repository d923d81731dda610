"""torchrun, but processes start again in their pod only where that can help: when a signal killed one of them.

What a process has said itself (wrong data, a loss that is no number, a hang) ends the pod, as it does under torchrun
with no restarts: whether there is a new attempt is for the operator's budgets to decide.
"""

import logging
import signal
from collections.abc import Iterable

from torch.distributed import run
from torch.distributed.elastic.agent.server import RunResult, WorkerGroup, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.launcher import api

from modelwright.api.run import PEER_LOST, TERMINATED
from modelwright.runtime import failure

logger = logging.getLogger(__name__)

_FOLLOWS = frozenset({PEER_LOST, TERMINATED})
"""Reasons that processes give when others have died, or the agent clears them away."""
_WAIT_SECONDS = 30


def curable(reason: str | None, exit_codes: Iterable[int]) -> bool:
    """Tell whether processes that start again in their pod can go on, by what these said and how they ended.

    `reason`: of the failure that they left, if they did. `exit_codes`: of those that failed, negative after a signal.
    """
    codes = list(exit_codes)
    if reason is None:
        return all(code < 0 for code in codes)
    # Asked to leave by a peer, the whole gang leaves; by its agent, because the process beside it was killed.
    return reason == PEER_LOST or (reason == TERMINATED and any(code < 0 and code != -signal.SIGTERM for code in codes))


class Agent(LocalElasticAgent):  # type: ignore[misc]
    """Starts the processes of one pod, and starts them again when all agents of the gang do."""

    _restarts = 0

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if result.state is WorkerState.FAILED:
            codes = [each.exitcode for each in result.failures.values()]
            if not curable(failure.said(), codes):
                self._remaining_restarts = 0
        return result

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        # For good: they have lost a peer, and SIGTERM would have them save and say that the pod was asked to leave.
        self._shutdown(signal.SIGKILL, _WAIT_SECONDS)
        reason = failure.said()
        if reason not in {None, *_FOLLOWS}:
            raise RuntimeError(f"a process has ended with {reason} meanwhile")
        if reason is None and worker_group.state is WorkerState.HEALTHY:
            # Only the agent of another pod wanted this: it is not this pod that is to blame, if nothing comes of it.
            failure.write_failure(failure.shortened(PEER_LOST, "The processes of another pod ended", retryable=True))
        # Counted here, so that all agents count alike: torch does not count what another one asked for.
        self._restarts += 1
        self._remaining_restarts = max(0, worker_group.spec.max_restarts - self._restarts)
        logger.warning("processes start again in their pod: %d of %d", self._restarts, worker_group.spec.max_restarts)
        super()._restart_workers(worker_group)

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, object]:
        # Not before all have come together: who waits in vain says still that it has lost a peer.
        failure.forget(_FOLLOWS)
        started: dict[int, object] = super()._start_workers(worker_group)
        return started


def main() -> None:
    """Do what torchrun does with the arguments."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # The launcher has no other way to be given one.
    api.LocalElasticAgent = Agent
    run.main()


if __name__ == "__main__":
    main()
