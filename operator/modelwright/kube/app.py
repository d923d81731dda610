"""The operator process: what is started in which order, and how it ends."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any

import kopf
from aiohttp import web
from kubernetes.aio.client import Configuration

from modelwright.api.common import Storage
from modelwright.kube import auth, discovery, errors, trigger
from modelwright.kube.act import Hands
from modelwright.kube.admission import Admission
from modelwright.kube.answers import Answers
from modelwright.kube.cache import Reflector
from modelwright.kube.client import Client, load_configuration
from modelwright.kube.events import EventPoster
from modelwright.kube.goodput import GoodputMetrics
from modelwright.kube.health import Health
from modelwright.kube.http import Endpoints, leader_url
from modelwright.kube.inbox import Inbox
from modelwright.kube.lease import Election, LostError
from modelwright.kube.metrics import Metrics
from modelwright.kube.objects import Objects
from modelwright.kube.queue import Queue
from modelwright.kube.reconcile import Parts, Planner, Reconciler
from modelwright.kube.refusals import Refusals
from modelwright.kube.resources import CHILDREN, OPTIONAL, OURS, Resource
from modelwright.kube.rollcall import RollCall
from modelwright.kube.settings import Process
from modelwright.kube.stores import Stores, at_or_below
from modelwright.kube.watches import WatchIndex
from modelwright.kube.wiring import Dispatcher

_DRAIN_SECONDS = 20.0
_CRD_SECONDS = 10.0
_KEEPING = "lease"

log = logging.getLogger(__name__)


class App:
    """One replica of the operator."""

    def __init__(self, process: Process, planners: Mapping[str, Planner], configuration: Configuration) -> None:
        self.process = process
        self.metrics = Metrics()
        self.client = Client(configuration, self.metrics)
        self.objects = Objects()
        self.queue = Queue(process.concurrency)
        self.watches = WatchIndex()
        self.inbox = Inbox(self.queue.add)
        self.stores = Stores(self.client, at_or_below(process.plans.resolve(Storage())), lend=self.queue.lend)
        self.events = EventPoster(self.client, self.metrics, process.pod_name)
        self.election = Election(self.client, process.pod_namespace, process.lease_name, process.identity)
        self.rollcall = RollCall(self.client, self.objects, self.metrics, process.scopes)
        self.reflectors = self._reflectors(*CHILDREN, *OPTIONAL)
        self.synced = False
        hands = Hands(self.client, self.objects, self.stores)
        refusals = Refusals(self.queue.add)
        parts = Parts(
            client=self.client,
            objects=self.objects,
            answers=Answers(self.client, self.objects, self.stores),
            hands=hands,
            events=self.events,
            inbox=self.inbox,
            watches=self.watches,
            metrics=self.metrics,
            refusals=refusals,
        )
        self.reconciler = Reconciler(parts, planners, process.plans, self.queue.add)
        self.health = Health(self.queue, self.reflectors, self.rollcall, self.objects)
        self.metrics.collect(self.health.metrics)
        self.metrics.collect(GoodputMetrics(self.objects).metrics)
        self.admission = Admission(self.objects, hands, process.plans.quotas, refusals=refusals)
        self.metrics.collect(self.admission.metrics)
        self.objects.subscribe(self.admission)
        self.objects.subscribe(Dispatcher(self.objects, self.watches, self.queue))
        self._configuration = configuration
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = asyncio.Event()
        """Set when any of them ends."""

    async def run(self) -> None:
        """Serve probes, wait for the Lease, reconcile until told to stop. Raises LostError when the Lease is lost."""
        runner = await self._serve()
        self._handle_signals()
        try:
            await self._until_stopped(self._lead())
        finally:
            self._stop.set()
            # A renewal under way would take the Lease back.
            await _cancel(task for task in self._tasks if task.get_name() == _KEEPING)
            await self.election.release()
            await _cancel(self._tasks)
            await runner.cleanup()
            self.stores.close()
            await self.client.close()

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Run some work until it ends, or until a signal comes; then give it time to finish what is under way."""
        task, stopped = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not task.done():
            log.info("stopping")
            task.cancel()
            await asyncio.wait({task}, timeout=_DRAIN_SECONDS)
        with contextlib.suppress(asyncio.CancelledError):
            if task.done():
                task.result()

    async def _lead(self) -> None:
        await self.election.acquire()
        self.client.guard = self.election.check
        try:
            await self._reconcile()
        finally:
            self.metrics.is_leader.set(0)

    async def _reconcile(self) -> None:
        self._background(self.election.keep(), _KEEPING)
        if not await self._finished(self._discover()):
            return
        self.health.start()
        for reflector in self.reflectors:
            self._background(reflector.run(), f"watch of {reflector.resource.plural}")
        self._background(self.events.run(), "events")
        if not await self._finished(self._view()):
            return
        self.admission.take_over()
        self.synced = True
        # Not with the Lease: one that never gets its view holds that as well, and does nothing.
        self.metrics.is_leader.set(1)
        log.info("reconciling %d objects", self.queue.schedule.depth())
        self._background(self.rollcall.run(), "roll call")
        self._background(self.admission.run(), "admission")
        await self._finished(self.queue.run(self.reconciler.reconcile))

    async def _discover(self) -> None:
        """Find out what this cluster can do."""
        process = self.process
        found = await discovery.pod_groups(self.client, process.scopes) if process.gang_scheduling else None
        log.info("gangs are placed %s", "pod by pod" if found is None else f"by PodGroups of {found.api_version}")
        if found is not None:
            self.reconciler.settings = replace(process.plans, pod_groups=found.api_version)
            self.reflectors += self._reflectors(found)

    def _reflectors(self, *resources: Resource) -> list[Reflector]:
        return [
            Reflector(
                self.client,
                resource,
                scope,
                self.objects,
                self.rollcall.soon,
                optional=resource in OPTIONAL,
                one_of_many=len(self.process.scopes) > 1,
            )
            for resource in resources
            for scope in self.process.scopes
        ]

    async def _finished(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run some work until it ends, or until anything in the background does; return whether it ended by itself.

        Whatever ends in the background ends the process: no part can do without the others. What it raised is raised.
        """
        task, ended = asyncio.create_task(work), asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            ended.cancel()
            await asyncio.wait({task})
        for done in (task, *self._tasks):
            if done.done() and not done.cancelled():
                done.result()
        return not task.cancelled()

    async def _view(self) -> None:
        """Return once the store holds the whole cluster: a plan on half a view would make what is there already."""
        await self._wait_for_crds()
        await self._start_kopf()
        # Side by side: each of them waits a while for what may not be seen.
        await asyncio.gather(self.rollcall.complete(), *(reflector.synced.wait() for reflector in self.reflectors))

    async def _wait_for_crds(self) -> None:
        for resource in OURS:
            while True:
                try:
                    await discovery.look(self.client, resource, self.process.scopes)
                    break
                except errors.NotFound as error:
                    log.warning("there is no kind %s; are the CRDs installed? %s", resource.kind, error.message)
                except errors.ApiError as error:
                    log.warning("%s cannot be listed, trying again: %s", resource.plural, error.message)
                await asyncio.sleep(_CRD_SECONDS)

    async def _start_kopf(self) -> None:
        ready = asyncio.Event()
        namespaces = self.process.namespaces
        self._background(
            kopf.operator(
                registry=trigger.registry(self.objects, self._configuration, self.rollcall.soon),
                settings=trigger.settings(),
                standalone=True,
                clusterwide=not namespaces,
                namespaces=namespaces,
                ready_flag=ready,
            ),
            "kopf",
        )
        await ready.wait()
        # kopf has taken the signals for itself; this process has more to end than kopf.
        self._handle_signals()

    async def _serve(self) -> web.AppRunner:
        endpoints = Endpoints(
            objects=self.objects,
            inbox=self.inbox,
            tokens=auth.PodTokens(self.client),
            rate=auth.Rate(),
            metrics=self.metrics,
            alert_token_file=self.process.alert_token_file,
            accepts=lambda: self.synced and self.election.leading,
            leader=lambda: leader_url(self.election.holder, self.process.identity, self.process.http_port),
            unhealthy=self.health.trouble,
        )
        runner = web.AppRunner(endpoints.application(), access_log=None, shutdown_timeout=5)
        await runner.setup()
        await web.TCPSite(runner, self.process.http_host or None, self.process.http_port).start()
        return runner

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: self._ended.set())
        self._tasks.append(task)

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)


async def run(process: Process, planners: Mapping[str, Planner]) -> int:
    """Run the operator; return the exit code."""
    app = App(process, planners, await load_configuration(process.context))
    try:
        await app.run()
    except LostError as error:
        log.error("%s", error)  # noqa: TRY400 (no bug: another replica has taken over)
        return 1
    return 0
