"""A gang under Ray on this machine: a Ray cluster of two nodes, its driver, and the agents that its actors start.

`python -m tests.integration.runtime_train.under_ray MESSAGE PORT` is the driver, with the cluster below it.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import ports
from e2e.support import agents, programs
from e2e.support.agents import LocalGang
from modelwright.api.run import RUN_VARIABLE, Run

_AGENT = "from tests.integration.runtime_train.under_ray import agent; agent()"


@contextmanager
def gang(run: Run, folder: Path, env: Mapping[str, str]) -> Iterator[LocalGang]:
    """Start the driver, which is the gang's only agent; in the end all of its processes are killed."""
    found = LocalGang(folder)
    (port,) = ports.free(1)
    with agents.listening(found.reports) as url:
        command = [sys.executable, "-m", __name__, str(folder / "message-0"), str(port)]
        told = {**agents.environment(run, env, url), agents.MESSAGE_FILE: str(folder / "said-in-a-pod")}
        driver = programs.start(command, told, folder / "log-0")
        found.agents.append(driver)
        try:
            yield found
        finally:
            found.lose(0)


def agent() -> None:
    """Be the agent of a worker, which leaves what it has to say where the driver looks for it."""
    from modelwright.runtime.orphan import end_with_parent

    end_with_parent()
    agents.launch(sys.argv[1:], finds_others=False)


def main(message: str, port: int) -> int:
    """Bring the Ray cluster up and drive."""
    import ray
    from ray.cluster_utils import Cluster

    from modelwright.runtime.failure import guarded
    from modelwright.runtime.train import ray_main
    from modelwright.runtime.train.rayworker import Program

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address)
    run = Run.model_validate_json(os.environ[RUN_VARIABLE])
    program = Program((sys.executable, "-c", _AGENT), os.environ[agents.MESSAGE_FILE])
    code = guarded(lambda: ray_main.train(run, program, port), Path(message))
    ray.shutdown()
    cluster.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
