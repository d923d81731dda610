"""`python -m modelwright.runtime.preflight [SECONDS]`: does every worker of the gang have an address?

Runs beside torchrun in the pods of a recipe, and may run as a program before one of the user's own. Worker 0 asks for
all names, the others for its name alone: a gang of a thousand asks the cluster's DNS two thousand times, not a million.
It imports next to nothing, so that it costs next to nothing.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from modelwright.api.variables import HOSTS_VARIABLE, INDEX_VARIABLE, NODE_VARIABLE, WORKERS_VARIABLE

logger = logging.getLogger(__name__)

_PATIENCE = 1740.0
"""Seconds. A worker that waits for a node has no address, and that is no failure."""
_PAUSE = 1.0
_SAY_EVERY = 30.0
_NAMED = 5


def whoami() -> str:
    """Return `worker 1 on node gpu-17`, or what is known of it."""
    node = os.environ.get(NODE_VARIABLE)
    return f"worker {os.environ.get(INDEX_VARIABLE, '0')}{f' on node {node}' if node else ''}"


def missing(hosts: str, indexes: Iterable[int], has_address: Callable[[str], bool]) -> list[int]:
    """Return the workers whose name has no address; `hosts` has `{}` for the index."""
    return [index for index in indexes if not has_address(hosts.format(index))]


def wait_for(
    hosts: str,
    indexes: Sequence[int],
    patience: float,
    has_address: Callable[[str], bool],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
    met: Callable[[], bool] = lambda: False,
) -> list[int]:
    """Wait until all names have addresses; return the workers that have none when `patience` seconds are over.

    None are missing once the workers have `met` all the same: a name may never be known where it is asked for.
    """
    begun = said = now()
    left = missing(hosts, indexes, has_address)
    while left and not met() and now() - begun < patience:
        if now() - said >= _SAY_EVERY:
            logger.info("waiting for the address of %s", _workers(hosts, left))
            said = now()
        sleep(_PAUSE)
        left = missing(hosts, left, has_address)
    return [] if met() else left


def main(arguments: Sequence[str]) -> int:
    """Return 0 when every name has an address, or 1 with a `Failure` left behind."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    return int(not check(float(arguments[0]) if arguments else _PATIENCE))


def check(patience: float, met: threading.Event | None = None) -> bool:
    """Tell whether the names of the gang in the environment have addresses; leave a `Failure` behind where not.

    `met` is set when the workers have found each other; what is missing then is missed by nobody.
    """
    met = met or threading.Event()
    hosts, workers = os.environ.get(HOSTS_VARIABLE, ""), int(os.environ.get(WORKERS_VARIABLE, "1"))
    if workers == 1 or not hosts:
        return True
    leads = os.environ.get(INDEX_VARIABLE, "0") == "0"
    wanted = range(workers) if leads else range(1)
    left = wait_for(hosts, wanted, patience, _has_address, sleep=met.wait, met=met.is_set)
    if not left:
        return True
    _give_up(f"{whoami()}: there is no address for {_workers(hosts, left)}", blames_nobody=leads)
    return False


def _give_up(message: str, *, blames_nobody: bool) -> None:
    # Only here: most of the time there is nothing to say, and these take a second to import.
    from modelwright.api.run import PREFLIGHT_FAILED
    from modelwright.runtime.failure import RunError, explain, on_node, write_failure

    logger.error(message)
    error = RunError(PREFLIGHT_FAILED, message, retryable=True)
    if blames_nobody:
        on_node(error, "")
    write_failure(explain(error))


def _workers(hosts: str, indexes: Sequence[int]) -> str:
    named = ", ".join(f"worker {index} ({hosts.format(index)})" for index in indexes[:_NAMED])
    return named + (f" and {len(indexes) - _NAMED} more" if len(indexes) > _NAMED else "")


def _has_address(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
