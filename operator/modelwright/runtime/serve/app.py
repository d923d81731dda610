"""The ASGI application: who answers which path, and what every answer has in common."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TypeAlias, TypeVar

from modelwright.api.serve import LIVE_PATH, METRICS_PATH, READY_PATH
from modelwright.runtime.monitor.counters import Counters
from modelwright.runtime.serve import oip, rows
from modelwright.runtime.serve.batch import Batch
from modelwright.runtime.serve.errors import InferenceError, RequestError
from modelwright.runtime.serve.home import home
from modelwright.runtime.serve.http import (
    BINARY,
    HEADER_LENGTH,
    TEXT,
    Disconnected,
    Receive,
    Response,
    Scope,
    Send,
    header_length,
    json_response,
    read_body,
    respond,
)
from modelwright.runtime.serve.metrics import Metrics
from modelwright.runtime.serve.model import Model, Outputs

INLINE_BYTES = 32 * 1024
"""A larger body is decoded beside the event loop."""
INLINE_SECONDS = 0.001
"""An inference that is expected to take longer runs beside the event loop; a shorter one is not worth the handover."""
_GONE = 499

Handler: TypeAlias = Callable[[Scope, Receive], Awaitable[Response]]
_T = TypeVar("_T")


class App:
    """One model over HTTP."""

    def __init__(self, model: Model, metrics: Metrics, counters: Counters | None, executor: Executor) -> None:
        self.draining = False
        """Told to stop: still answering, but no longer ready."""
        self._model = model
        self._metrics = metrics
        self._counters = counters
        self._executor = executor
        self._get, self._post = self._routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if scope["method"] == "POST" and path in self._post:
            await self._predict(self._post[path], scope, receive, send)
            return
        if scope["method"] in {"GET", "HEAD"} and path in self._get:
            response = self._get[path]()
        else:
            response = self._refusal(path)
        await respond(send, response, close=self.draining)

    def _routes(self) -> tuple[dict[str, Callable[[], Response]], dict[str, Handler]]:
        model = self._model
        whole, one = f"/v2/models/{model.name}", f"/v2/models/{model.name}/versions/{model.version}"
        metadata, server, page = (
            json_response(oip.model_metadata(model)),
            json_response(oip.server_metadata()),
            home(model),
        )
        get: dict[str, Callable[[], Response]] = {
            "/": lambda: page,
            "/v2": lambda: server,
            LIVE_PATH: lambda: json_response({"live": True}),
            READY_PATH: lambda: self._readiness(),
            METRICS_PATH: lambda: Response(self._metrics.exposition(), content_type=TEXT),
            f"/v1/models/{model.name}": lambda: self._readiness(),
        }
        post: dict[str, Handler] = {"/predict": self._rows, f"/v1/models/{model.name}:predict": self._rows}
        for base in (whole, one):
            get[base] = lambda: metadata
            get[f"{base}/ready"] = lambda: self._readiness()
            post[f"{base}/infer"] = self._infer
        return get, post

    def _readiness(self) -> Response:
        return json_response({"ready": not self.draining}, 503 if self.draining else 200)

    def _refusal(self, path: str) -> Response:
        if path in self._post or path in self._get:
            return json_response({"error": f"{path} takes {'POST' if path in self._post else 'GET'}"}, 405)
        served = f"this server has model {self._model.name} version {self._model.version}; GET / says how to call it"
        return json_response({"error": f"there is no {path[:200]}: {served}"}, 404)

    async def _predict(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        code = 500
        self._metrics.in_flight.inc()
        try:
            response = await self._guarded(handler, scope, receive)
            code = response.status
            await respond(send, response, close=self.draining)
        except Disconnected:
            code = _GONE
        finally:
            self._metrics.in_flight.dec()
            self._metrics.answered(code, time.perf_counter() - start)

    async def _guarded(self, handler: Handler, scope: Scope, receive: Receive) -> Response:
        try:
            return await handler(scope, receive)
        except RequestError as error:
            return json_response(error.document(), error.status)
        except InferenceError as error:
            return json_response({"error": str(error)}, 500)

    async def _rows(self, scope: Scope, receive: Receive) -> Response:
        body = await read_body(scope, receive)
        batch = await self._aside(len(body) > INLINE_BYTES, lambda: rows.decode(body, self._model))
        return await self._aside(self._slow(batch), lambda: Response(rows.encode(self._model, self._run(batch))))

    async def _infer(self, scope: Scope, receive: Receive) -> Response:
        body = await read_body(scope, receive)
        length = header_length(scope)
        request = await self._aside(len(body) > INLINE_BYTES, lambda: oip.decode(body, length, self._model))
        return await self._aside(self._slow(request.batch), lambda: self._answer(request))

    def _answer(self, request: oip.InferRequest) -> Response:
        body, length = oip.encode(request, self._model, self._run(request.batch))
        if length is None:
            return Response(body)
        return Response(body, content_type=BINARY, headers=((HEADER_LENGTH, str(length).encode()),))

    def _run(self, batch: Batch) -> Outputs:
        outputs = self._model.run(batch)
        self._metrics.predicted(batch.rows)
        if self._counters is not None:
            self._counters.record(batch.numeric, batch.text, outputs.prediction)
        return outputs

    def _slow(self, batch: Batch) -> bool:
        return self._model.seconds(batch.rows) > INLINE_SECONDS

    async def _aside(self, elsewhere: bool, work: Callable[[], _T]) -> _T:
        if not elsewhere:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
