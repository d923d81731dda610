"""Ports: finding free ones, and naming who has the one that is needed."""

import socket
from typing import NamedTuple

from e2e.cluster import shell
from e2e.cluster.errors import ClusterError


class Address(NamedTuple):
    """A host and a port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def free(count: int, host: str = "127.0.0.1") -> list[int]:
    """Distinct ports that nobody listens on at this moment."""
    sockets = [socket.create_server((host, 0)) for _ in range(count)]
    numbers = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return numbers


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
