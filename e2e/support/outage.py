"""A store that is out of order for a while: a second S3 server over the folder of the first, for who asks for it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from e2e.cluster import lifecycle, storage
from e2e.cluster.paths import Layout
from e2e.cluster.processes import Component, Supervisor
from e2e.support.install import STORAGE_SECRET, Installation
from e2e.support.resources import Object


@dataclass(frozen=True)
class BackDoor:
    """Another way into the bucket that everybody uses; only on the local cluster."""

    storage: Object
    """The `storage` of a resource that comes this way."""
    _server: Component
    _processes: Supervisor

    @classmethod
    @contextmanager
    def opened(cls, installation: Installation) -> Iterator[Self]:
        """Run the server within the block."""
        layout = Layout.default()
        server, processes = storage.back_door(layout), lifecycle.supervisor(layout)
        place = {
            "uri": installation.bucket.uri,
            "endpoint": f"http://{server.listens[0]}",
            "region": installation.target.s3.region,
            "secretName": STORAGE_SECRET,
        }
        door = cls(place, server, processes)
        # One that a run left behind, which was ended while its requests hung, would never answer again.
        processes.stop(server.name, grace=0)
        door._open()
        try:
            yield door
        finally:
            processes.stop(server.name)

    @contextmanager
    def refused_connections(self) -> Iterator[None]:
        """Stop the server: whoever connects is refused."""
        self._processes.stop(self._server.name)
        try:
            yield
        finally:
            self._open()

    @contextmanager
    def hanging_requests(self) -> Iterator[None]:
        """Freeze the server: connections open, and nothing ever comes back."""
        record = self._processes.find(self._server.name)
        assert record is not None, "the S3 server does not run"
        assert record.alive(), "the S3 server has died"
        os.kill(record.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(record.pid, signal.SIGCONT)

    def _open(self) -> None:
        self._processes.launch(self._server)
        self._processes.await_ready(self._server)
