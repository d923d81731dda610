"""The HTTP server process: it leaves slowly, so that nobody who was sent here is turned away."""

import asyncio
import signal
import socket
from types import FrameType

import uvicorn

from modelwright.runtime.serve.app import App

_KEEP_ALIVE_SECONDS = 75
"""Longer than common clients and proxies keep an idle connection, so that they close it and not this side."""
_IN_FLIGHT_SECONDS = 20
"""Of the time after the drain, for answers that are still being worked on."""


class DrainingServer(uvicorn.Server):
    """On SIGTERM it is no longer ready but goes on answering, then finishes what is in flight and ends with success.

    A pod is told to stop at the same moment as the rest of the cluster is told to send it nothing more; until that news
    has reached every node, requests still come.
    """

    def __init__(self, app: App, port: int, drain_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host="0.0.0.0",  # noqa: S104 (a pod has its own address)
                port=port,
                http="httptools",
                loop="uvloop",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_IN_FLIGHT_SECONDS,
            )
        )
        self._app = app
        self._drain_seconds = drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, and through the drain."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the drain; SIGINT, from a person at a keyboard, ends it at once."""
        del frame
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin, 0.0 if sig == signal.SIGINT else self._drain_seconds)

    def _begin(self, seconds: float) -> None:
        if self._app.draining and seconds > 0:
            return
        self._app.draining = True
        asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self.should_exit = True
