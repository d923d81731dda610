"""`python -m modelwright.runtime.train.torchrun`: torchrun for recipes, which imports torch once in a pod.

torchrun starts every process as a new program, which imports all that torchrun has imported, and more. Here the agent
imports what its processes need, and they are forked from a spare copy of it: also when they start again.
"""

import argparse
import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from modelwright.api import dns
from modelwright.runtime import preflight
from modelwright.runtime.imports import importing
from modelwright.runtime.train import spare

NEEDED = (
    "modelwright.runtime.train.main",
    "modelwright.runtime.train.loop",
    # What these import only where it is needed, and the first step always does.
    "torch.distributed",
)


def work() -> None:
    """Be one process of a recipe's gang; ends the process itself when that fails."""
    from modelwright.runtime.train import main

    # All of them have the agent's command line; `ps`, `top` and the out-of-memory killer show this one.
    Path("/proc/self/comm").write_text(f"rank-{os.environ['RANK']}")
    code = main.run()
    if code != os.EX_OK:
        main.leave(code)


def launch(arguments: Sequence[str], work: Callable[[], None] = work, *, finds_others: bool = True) -> NoReturn:
    """Do what torchrun does with the arguments, where `work` stands for the program, and exit.

    `finds_others`: the others may not be there yet, and have names.
    """
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, add_help=False)
    parser.add_argument("--names", type=float, help="look for the workers' names, for so many seconds without DNS")
    own, others = parser.parse_known_args(arguments)
    # Not at the top: it takes seconds, and whoever asks for help or imports this has no use for it.
    with importing():
        for module in NEEDED:
            importlib.import_module(module)
        from modelwright.runtime.train import agent, main

    spare.start()
    met = threading.Event()
    if finds_others:
        _find_others(own.names, met, lambda: main.leave(1))
    main.leave(agent.launch(others, work, met.set))


def _find_others(names: float | None, met: threading.Event, give_up: Callable[[], object]) -> None:
    """Return when torchrun may look for the others; `names` is None where the preflight is not wanted.

    torchrun waits for worker 0 for so long as a slow start may take, and not for a node. Once it has begun, worker 0's
    agent waits for the others without end.
    """

    def find() -> None:
        if names is None:
            preflight.absent(dns.PATIENCE)  # what is missing then, torchrun misses too
        elif not preflight.check(names, met):
            give_up()

    if not preflight.leads():
        find()
    elif names is not None:
        threading.Thread(target=find, daemon=True).start()


if __name__ == "__main__":
    launch(sys.argv[1:])
