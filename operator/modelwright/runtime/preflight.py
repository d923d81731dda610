"""`python -m modelwright.runtime.preflight [SECONDS]`: does every worker of the gang have an address?

Runs beside torchrun in the pods of a recipe, and may run as a program before one of the user's own. Worker 0 asks for
all names, the others for its name alone: a gang of a thousand asks the cluster's DNS two thousand times, not a million.
A worker whose pod waits for a node has no address, and is waited for without end. That is told apart from a DNS that
does not work by the gang's Service, whose name has the addresses of all pods that have one: this one's among them.
It imports next to nothing, so that it costs next to nothing.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from modelwright.api import dns
from modelwright.api.variables import HOSTS_VARIABLE, INDEX_VARIABLE, NODE_VARIABLE, WORKERS_VARIABLE

logger = logging.getLogger(__name__)

_PAUSE, _LONG_PAUSE = 1.0, 5.0
_LONG = 60.0
"""Seconds after which a wait is a long one."""
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
    """Wait until all names have addresses; return the workers that have none after `patience` seconds without DNS.

    None are missing once the workers have `met` all the same: a name may never be known where it is asked for.
    """
    begun = said = worked = now()
    left = missing(hosts, indexes, has_address)
    while left and not met():
        at = now()
        late, silent = at - worked >= patience, at - said >= _SAY_EVERY
        if (late or silent) and has_address(_service(hosts)):
            worked = at
        elif late:
            break
        if silent:
            logger.info("waiting for the address of %s", _workers(hosts, left))
            said = at
        sleep(_PAUSE if at - begun < _LONG else _LONG_PAUSE)
        left = missing(hosts, left, has_address)
    return [] if met() else left


def main(arguments: Sequence[str]) -> int:
    """Return 0 when every name has an address, or 1 with a `Failure` left behind."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    return int(not check(float(arguments[0]) if arguments else dns.PATIENCE))


def leads() -> bool:
    """Tell whether this is worker 0."""
    return os.environ.get(INDEX_VARIABLE, "0") == "0"


def check(patience: float, met: threading.Event | None = None) -> bool:
    """Tell whether the names of the gang in the environment have addresses; leave a `Failure` behind where not.

    `patience`, `met`: as for `absent`.
    """
    left = absent(patience, met)
    if left:
        who = _workers(os.environ[HOSTS_VARIABLE], left)
        _give_up(f"{whoami()}: there is no address for {who}", blames_nobody=leads())
    return not left


def absent(patience: float, met: threading.Event | None = None) -> list[int]:
    """Wait for the addresses that this worker asks for; return whose are missing after `patience` seconds without DNS.

    `met` is set when the workers have found each other; what is missing then is missed by nobody.
    """
    met = met or threading.Event()
    hosts, workers = os.environ.get(HOSTS_VARIABLE, ""), int(os.environ.get(WORKERS_VARIABLE, "1"))
    if workers == 1 or not hosts:
        return []
    wanted = range(workers) if leads() else range(1)
    return wait_for(hosts, wanted, patience, _has_address, sleep=met.wait, met=met.is_set)


def all_placed() -> bool:
    """Tell whether every pod of the gang has a node, as far as DNS can know that; with its node it gets an address."""
    hosts, workers = os.environ.get(HOSTS_VARIABLE, ""), int(os.environ.get(WORKERS_VARIABLE, "1"))
    if not hosts or not missing(hosts, range(workers), _has_address):
        return True
    return not _has_address(_service(hosts))


def _give_up(message: str, *, blames_nobody: bool) -> None:
    # Only here: most of the time there is nothing to say, and these take a second to import.
    from modelwright.api.run import PREFLIGHT_FAILED
    from modelwright.runtime.failure import RunError, explain, on_node, write_failure

    logger.error(message)
    error = RunError(PREFLIGHT_FAILED, message, retryable=True)
    if blames_nobody:
        on_node(error, "")
    write_failure(explain(error))


def _service(hosts: str) -> str:
    return hosts.partition(".")[2]


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
