"""The store of torchrun's agent in the first pod, through which the processes of a gang find each other.

It outlives all of them, so what they call things is new in each restart.
"""

import os
from datetime import timedelta
from typing import Any


def restarts() -> int:
    """Return how often the processes of this attempt have started again in their pods."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def kept_by_agent() -> bool:
    """Tell whether there is such a store; Ray Train has none, nor has a command whose processes may start again."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)


def connect(timeout: timedelta = timedelta(minutes=5)) -> Any:
    """Return a connection to the `torch.distributed.TCPStore` that torchrun or Ray has brought up."""
    return connect_to(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout)


def connect_to(address: str, port: int, timeout: timedelta) -> Any:
    """Return a connection to a `torch.distributed.TCPStore`."""
    from torch.distributed import TCPStore

    return TCPStore(address, port, is_master=False, timeout=timeout)


def fresh_store(timeout: timedelta) -> Any:
    """Return the store in which processes of this restart find each other.

    The addresses of those before them are still in the store, and nobody answers there.
    """
    from torch.distributed import PrefixStore

    return PrefixStore(f"modelwright/restart-{restarts()}", connect(timeout))
