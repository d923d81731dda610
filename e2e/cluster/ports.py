"""Ports: finding free ones, and naming who has the one that is needed."""

import contextlib
import os
import random
import socket
from pathlib import Path
from typing import NamedTuple

from e2e.cluster import shell
from e2e.cluster.errors import ClusterError

_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15_000


class Address(NamedTuple):
    """A host and a port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def free(count: int, host: str = "127.0.0.1") -> list[int]:
    """Distinct ports that nobody listens on at this moment.

    Not those that the kernel gives to outgoing connections: one of these may take the port of a server that is down for
    a moment, and then the server cannot come back. Tests that run side by side have ports of their own each, for what
    is found here may be listened on much later.
    """
    first_outgoing = int(_OUTGOING.read_text().split()[0])
    found: list[int] = []
    number, workers = _worker()
    for port in random.sample(range(_LOWEST + number, max(first_outgoing, _LOWEST + 10_000), workers), 1000):
        with contextlib.suppress(OSError), socket.create_server((host, port)):
            found.append(port)
        if len(found) == count:
            return found
    raise ClusterError(f"there are no {count} free ports between {_LOWEST} and {first_outgoing} on {host}")


def _worker() -> tuple[int, int]:
    """Return which of the processes of tests this is, from 0, and how many there are."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return int(name.removeprefix("gw")), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def answers(address: Address) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection(address, timeout=1):
            return True
    except OSError:
        return False


def require_free(address: Address, wanted_by: str) -> None:
    """Fail with the name of whoever has the port."""
    try:
        socket.create_server(address).close()
    except OSError as error:
        holder = shell.attempt(["ss", "-Hlntp", f"sport = :{address.port}"]).stdout.split("users:")[-1].strip()
        raise ClusterError(
            f"{wanted_by} needs {address}, which is taken by {holder or 'an unknown process'}; "
            "stop that process and run `up` again"
        ) from error
