"""One worker of a gang under Ray: an actor that starts torchrun's agent as a program of its own, and tells its end.

Nothing trains in the actor itself. When it dies, Ray needs new processes and these all their imports; an agent forks
the process that was killed anew from its spare, as in a pod without Ray.

`python -m modelwright.runtime.train.rayworker` is that program.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelwright.api.run import TERMINATION_MESSAGE_FILE
from modelwright.api.variables import NODE_VARIABLE, THREADS_VARIABLE
from modelwright.runtime.cpus import cpu_limit
from modelwright.runtime.failure import RunError, left, retold
from modelwright.runtime.orphan import end_with_parent
from modelwright.runtime.preflight import whoami

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Place:
    """Where Ray has put a worker."""

    node: str
    """Ray's name of the node, which is a pod."""
    address: str
    gpus: tuple[str, ...] = ()
    """Its own, as CUDA_VISIBLE_DEVICES calls them."""


@dataclass(frozen=True)
class Program:
    """What an actor starts, and where that leaves what it has to say."""

    command: tuple[str, ...] = (sys.executable, "-m", __name__)
    message: str = TERMINATION_MESSAGE_FILE


@dataclass(frozen=True)
class Start:
    """What one worker is started with."""

    arguments: Sequence[str]
    """torchrun's."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside that of its pod."""
    beside: int | None = None
    """How many workers share the CPUs of its pod; None: Ray has given it some of its own."""


def whereabouts() -> tuple[str, str]:
    """Return `worker 1 on node gpu-17`, of the pod where this runs, and the node alone; empty where nobody knows it."""
    return whoami(), os.environ.get(NODE_VARIABLE, "")


class Worker:
    """The actor."""

    def place(self) -> Place:
        """Return where this is."""
        import ray

        context = ray.get_runtime_context()
        # Others than NVIDIA's have a variable of their own, and each worker keeps to what it sees.
        own = context.get_accelerator_ids().get("GPU", []) if VISIBLE_GPUS in os.environ else []
        return Place(context.get_node_id(), ray.util.get_node_ip_address(), tuple(map(str, own)))

    def train(self, program: Program, start: Start) -> None:
        """Run the agent to its end. Raises `RunError`, with the failure that it has left."""
        environment = {**os.environ, **start.environment}
        if start.beside is not None:
            # Ray takes the little that the worker is placed by for all that it may use. What holds is what the user
            # asked for, or the worker's share of the pod's own limit.
            share = str(max(1, cpu_limit() // start.beside))
            environment[THREADS_VARIABLE] = start.environment.get(THREADS_VARIABLE, share)
        code = subprocess.call([*program.command, *start.arguments], env=environment)  # noqa: S603 (our own)
        if code == os.EX_OK:
            return
        said = left(Path(program.message))
        if said is not None:
            raise retold(said)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise RunError("TrainingError", f"A worker {how}; its log says why", retryable=True)


def main() -> None:
    """Be the agent of a worker, with torchrun's arguments."""
    end_with_parent()
    from modelwright.runtime.train import torchrun

    torchrun.launch(sys.argv[1:], finds_others=False)


if __name__ == "__main__":
    main()
