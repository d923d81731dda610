"""The local cluster's S3 server, out of order for a while."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster import lifecycle, storage
from e2e.cluster.paths import Layout

_NAME = "versitygw"


@contextmanager
def refused_connections() -> Iterator[None]:
    """Stop the server: whoever connects is refused."""
    layout = Layout.default()
    processes = lifecycle.supervisor(layout)
    processes.stop(_NAME)
    try:
        yield
    finally:
        component = storage.component(layout)
        processes.launch(component)
        processes.await_ready(component)


@contextmanager
def hanging_requests() -> Iterator[None]:
    """Freeze the server: connections open, and nothing ever comes back."""
    record = lifecycle.supervisor(Layout.default()).find(_NAME)
    assert record is not None, "the S3 server does not run"
    assert record.alive(), "the S3 server has died"
    os.kill(record.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(record.pid, signal.SIGCONT)
