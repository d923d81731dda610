"""The HTTP side: probes and metrics, reports from pods, alerts from Alertmanager.

Any replica may be asked. One that does not lead passes reports and alerts on to the one that does, which checks them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest
from pydantic import ValidationError

from modelwright.api.run import SweepReport, TrainingReport
from modelwright.kube import auth, errors
from modelwright.kube.inbox import Inbox, Report
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Key, Objects
from modelwright.kube.resources import BY_PLURAL, POD
from modelwright.plan import alerts
from modelwright.plan.observed import Alert
from modelwright.plan.validation import sentence

FORWARDED = "X-Modelwright-Forwarded"
_LONGEST_REPORT = 256 * 1024
_LONGEST_BODY = 4 * 1024 * 1024
ALERT_SECONDS = 10.0
"""So long an alert's plan may take; Alertmanager sends again what was not answered with 200."""
_FORWARD_SECONDS = 15.0
_REPORTS: dict[str, type[TrainingReport] | type[SweepReport]] = {
    "trainingjobs": TrainingReport,
    "tuningsweeps": SweepReport,
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_SESSION = web.AppKey("session", aiohttp.ClientSession)


@dataclass
class Endpoints:
    """What the handlers work with."""

    objects: Objects
    inbox: Inbox
    tokens: auth.PodTokens
    rate: auth.Rate
    metrics: Metrics
    alert_token_file: Path | None
    accepts: Callable[[], bool]
    """Whether this replica leads and knows the whole cluster."""
    leader: Callable[[], str | None]
    """Base URL of the replica that leads, if it is another one."""
    unhealthy: Callable[[], str | None]
    """Why this process should be restarted; None: it should not."""

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application(client_max_size=_LONGEST_BODY)
        application.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.post("/v1/alerts", self._counted(self.metrics.alerts, self._alerts)),
                web.post(
                    "/v1/namespaces/{namespace}/{plural:trainingjobs|tuningsweeps}/{name}/report",
                    self._counted(self.metrics.reports, self._report),
                ),
            ]
        )
        application.cleanup_ctx.append(self._session)
        return application

    async def _session(self, application: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_FORWARD_SECONDS)) as session:
            application[_SESSION] = session
            yield

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _: web.Request) -> web.Response:
        trouble = self.unhealthy()
        return web.Response(text="ok\n") if trouble is None else _refuse(500, trouble)

    async def _readyz(self, _: web.Request) -> web.Response:
        if self.accepts() or self.leader() is not None:
            return web.Response(text="ok\n")
        return _refuse(503, "starting: no replica leads yet, or this one has not seen the whole cluster")

    async def _report(self, request: web.Request) -> web.Response:
        """Take a report in, from a pod of the object that it speaks of."""
        token = auth.bearer(request.headers.get("Authorization"))
        if token is None:
            return _refuse(401, "a bearer token of the audience modelwright is wanted")
        if not self.rate.allows(auth.fingerprint(token)):
            return _refuse(429, "too many reports")
        try:
            pod = await self.tokens.pod(token)
        except errors.ApiError as error:
            return _refuse(503, f"the token cannot be checked: {error.message}")
        if pod is None:
            return _refuse(401, "the token is not that of a pod, or not for the audience modelwright")
        place = request.match_info
        key = Key(BY_PLURAL[place["plural"]].kind, place["namespace"], place["name"])
        uid = self._uid_for(key, pod)
        if uid is None:
            return _refuse(403, f"pod {pod.name} does not belong to {key.kind} {key.namespace}/{key.name}")
        try:
            report = await _read_report(request, place["plural"])
        except ValidationError as error:
            return _refuse(400, sentence(error, "report"))
        self.inbox.report(key, uid, report)
        return web.Response(status=202)

    def _uid_for(self, key: Key, pod: auth.PodIdentity) -> str | None:
        """Return the UID of the object if the pod is one of its pods."""
        record = self.objects.record(key)
        known = self.objects.record(Key(POD.kind, pod.namespace, pod.name))
        if record is None or known is None or pod.namespace != key.namespace:
            return None
        return record.uid if (known.uid, known.owner) == (pod.uid, record.uid) else None

    async def _alerts(self, request: web.Request) -> web.Response:
        """Answer 200 once every policy that an alert concerns has dealt with it."""
        expected = await asyncio.to_thread(auth.expected_token, self.alert_token_file)
        if expected is None:
            return _refuse(503, "alerts are refused: no alert token is configured (chart value alerts.tokenSecretName)")
        if not auth.matches(auth.bearer(request.headers.get("Authorization")), expected):
            return _refuse(401, "a bearer token is wanted, and it must be the configured one")
        try:
            firing = alerts.decode(orjson.loads(await request.read()))
        except (orjson.JSONDecodeError, alerts.PayloadError) as error:
            return _refuse(400, f"not a notification of Alertmanager: {error}")
        return await self._deliver(firing)

    async def _deliver(self, firing: tuple[Alert, ...]) -> web.Response:
        waiting = {}
        for policy in self.objects.of_kind("DriftPolicy"):
            concerned = alerts.for_policy(firing, policy)
            if concerned:
                metadata = policy["metadata"]
                key = Key("DriftPolicy", metadata["namespace"], metadata["name"])
                waiting[self.inbox.submit(key, concerned)] = key
        if waiting:
            await asyncio.wait(waiting, timeout=ALERT_SECONDS)
        late = [key for future, key in waiting.items() if not future.done()]
        for future, key in waiting.items():
            if not future.done():
                self.inbox.withdraw(key, future)
        if late:
            return _refuse(503, f"not dealt with in time: {', '.join(f'{key.namespace}/{key.name}' for key in late)}")
        return web.json_response({"policies": len(waiting)})

    def _counted(self, counter: Counter, handler: _Handler) -> _Handler:
        async def counted(request: web.Request) -> web.StreamResponse:
            code = 500
            try:
                response = await (handler(request) if self.accepts() else self._forward(request))
                code = response.status
            except web.HTTPException as error:
                code = error.status
                raise
            finally:
                counter.labels(str(code)).inc()
            return response

        return counted

    async def _forward(self, request: web.Request) -> web.Response:
        leader = self.leader()
        if leader is None or FORWARDED in request.headers:
            return _refuse(503, "no replica leads at the moment")
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        try:
            async with request.app[_SESSION].post(
                leader + request.path, data=await request.read(), headers={**headers, FORWARDED: "1"}
            ) as response:
                return web.Response(
                    status=response.status, body=await response.read(), content_type=response.content_type
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            return _refuse(503, f"the replica that leads does not answer: {type(error).__name__}")


async def _read_report(request: web.Request, plural: str) -> Report:
    body = await request.read()
    if len(body) > _LONGEST_REPORT:
        raise web.HTTPRequestEntityTooLarge(_LONGEST_REPORT, len(body))
    return _REPORTS[plural].model_validate_json(body)


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def leader_url(holder: str, own: str, port: int) -> str | None:
    """Return where the holder of the Lease listens; None when that is this replica, or nobody."""
    address = holder.rpartition("_")[2]
    if not address or holder == own:
        return None
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
