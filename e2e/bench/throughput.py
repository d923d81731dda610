"""`python -m e2e.bench.throughput`: suspended TrainingJobs per second, from created to child Job and status.

Everything runs on this machine: etcd, the API server, the controllers, the operator and the creation of the objects
share its cores. The clock runs from the first creation until the operator has written the last status; then it is
checked that every object has its Job and its status. A restart follows, which must write nothing.

Before each run the same writes are made without any operator, by a loop that already knows what to write: what this API
server can do at that moment. The share of it that the operator reaches can be compared between machines and days.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev

import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from e2e.bench import results
from e2e.bench.operator import Operator
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.processes import Supervisor
from e2e.cluster.standalone import control_plane
from modelwright.api.common import Storage
from modelwright.kube import events
from modelwright.kube.client import Client
from modelwright.kube.metrics import Metrics
from modelwright.kube.resources import BY_PLURAL, JOB, Resource
from modelwright.plan import training
from modelwright.plan.actions import Apply, Object, Plan
from modelwright.plan.observed import Observed
from modelwright.plan.settings import Settings

_ROOT = Path(__file__).resolve().parents[2]
_NAMESPACE = "default"
_AT_ONCE = 16
_JOBS = BY_PLURAL["trainingjobs"]
_LIMIT_SECONDS = 600.0
_CALM_SECONDS = 3.0
_CALM_SHARE = 0.2
"""Of a core: what an idle control plane uses, and a little."""
_OVERHEAD = ("list", "watch", "update")
_CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager")
_SETTINGS = Settings("runtime", "server", storage=Storage(uri="s3://models/test"))


@dataclass(frozen=True)
class Run:
    """One measurement."""

    objects: int
    objects_per_second: float
    bare_objects_per_second: float
    """The same writes without an operator."""
    share: float
    """Of the bare rate."""
    cpu_ms_per_object: dict[str, float]
    """By process, in the time that was measured."""
    rss_mib: float
    """Resident memory of the operator afterwards."""
    status_writes_per_object: float
    reconciles_per_object: float
    calls_per_object: float
    """To the API server, without those of the watches and the Lease."""
    restart_seconds: float
    """From the start of a new process until it reconciles."""
    restart_writes: int
    restart_rss_mib: float


class Bench:
    """A control plane with the definitions of our kinds, and a client."""

    def __init__(self, kubeconfig: Path, log: Path, client: Client) -> None:
        self.kubectl = Kubectl(kubeconfig)
        self.client = client
        self._kubeconfig = kubeconfig
        self._log = log
        self._base = template()
        self._supervisor = Supervisor(kubeconfig.parent / "pids", kubeconfig.parent / "logs")

    async def run(self, count: int) -> Run:
        """Measure once, and leave nothing behind."""
        await self._calm()
        bare = await self._bare(count)
        await self._remove()
        first, second = self._operator(), self._operator()
        try:
            first.start()
            await asyncio.to_thread(first.await_leading)
            await self._calm()
            before, begun = self._cpu(first), time.monotonic()
            await _for_each(count, self._create)
            await _reaches(first, "modelwright_status_writes_total", count)
            rate = count / (time.monotonic() - begun)
            cpu = {name: round((spent - before[name]) / count * 1000, 2) for name, spent in self._cpu(first).items()}
            await self._check(count)
            await asyncio.sleep(3)
            after = first.metrics()
            first.stop()
            begun = time.monotonic()
            second.start()
            await asyncio.to_thread(second.await_leading, _LIMIT_SECONDS)
            restart = time.monotonic() - begun
            await _reaches(second, "modelwright_reconcile_seconds_count", count)
            await asyncio.sleep(1)
            return Run(
                objects=count,
                objects_per_second=round(rate, 1),
                bare_objects_per_second=round(bare, 1),
                share=round(rate / bare, 2),
                cpu_ms_per_object=cpu,
                rss_mib=_mib(after),
                status_writes_per_object=round(after["modelwright_status_writes_total"] / count, 3),
                reconciles_per_object=round(after["modelwright_reconcile_seconds_count"] / count, 2),
                calls_per_object=round(_calls(after) / count, 2),
                restart_seconds=round(restart, 1),
                restart_writes=int(second.writes()),
                restart_rss_mib=_mib(second.metrics()),
            )
        finally:
            first.kill()
            second.kill()
            await self._remove()

    async def _calm(self) -> None:
        """Wait until nothing works any more: new definitions and a thousand deletions keep a control plane busy."""
        deadline = time.monotonic() + _LIMIT_SECONDS
        while time.monotonic() < deadline:
            before = self._control_plane_cpu()
            await asyncio.sleep(_CALM_SECONDS)
            if sum(self._control_plane_cpu().values()) - sum(before.values()) < _CALM_SHARE * _CALM_SECONDS:
                return
        raise TimeoutError("the control plane does not come to rest")

    async def _bare(self, count: int) -> float:
        begun = time.monotonic()
        await _for_each(count, self._write_all)
        return count / (time.monotonic() - begun)

    async def _create(self, number: int) -> Object:
        metadata = {"name": f"bench-{number:05d}", "namespace": _NAMESPACE}
        return await self.client.create(_JOBS, {**self._base, "metadata": metadata})

    async def _write_all(self, number: int) -> None:
        made = await self._create(number)
        plan = training.plan(Observed(made), _SETTINGS, datetime.now(UTC))
        assert isinstance(plan, Plan)
        for action in plan.actions:
            assert isinstance(action, Apply)
            await self.client.apply(action.object)
        identity = {name: made["metadata"][name] for name in ("name", "namespace", "uid")}
        document = {key: made[key] for key in ("apiVersion", "kind")} | {"metadata": identity, "status": plan.status}
        await self.client.apply(document, "status")
        for event in plan.events:
            await self.client.create_event(events.document(made, event, "bench", datetime.now(UTC)))

    async def _check(self, count: int) -> None:
        jobs, objects = await self._all(JOB), await self._all(_JOBS)
        with_status = [entry for entry in objects if entry.get("status", {}).get("conditions")]
        if (len(jobs), len(with_status)) != (count, count):
            raise AssertionError(f"{count} objects, {len(jobs)} Jobs, {len(with_status)} statuses")

    async def _all(self, resource: Resource) -> list[Object]:
        return [item async for page, _ in self.client.list(resource, _NAMESPACE) for item in page]

    async def _remove(self) -> None:
        await asyncio.to_thread(self.kubectl.run, "delete", _JOBS.plural, "--all", "--wait=false")
        # Children go by their owner references.
        while await self._all(JOB) or await self._all(_JOBS):  # noqa: ASYNC110 (the event is in another process)
            await asyncio.sleep(0.5)

    def _operator(self) -> Operator:
        return Operator(self._kubeconfig, self._log)

    def _cpu(self, operator: Operator) -> dict[str, float]:
        """Return the CPU seconds that every process has used, ours included."""
        ours = {"operator": _cpu_seconds(operator.pid), "bench": _cpu_seconds(os.getpid())}
        return ours | self._control_plane_cpu()

    def _control_plane_cpu(self) -> dict[str, float]:
        spent = {}
        for name in _CONTROL_PLANE:
            record = self._supervisor.find(name)
            assert record is not None
            spent[name] = _cpu_seconds(record.pid)
        return spent


def template() -> Object:
    """Return the example TrainingJob, suspended."""
    document: Object = yaml.safe_load((_ROOT / "examples" / "trainingjob.yaml").read_text())
    document["spec"]["suspend"] = True
    return document


async def _for_each(count: int, work: Callable[[int], Awaitable[object]]) -> None:
    numbers = iter(range(count))

    async def worker(share: Iterable[int]) -> None:
        for number in share:
            await work(number)

    await asyncio.gather(*(worker(numbers) for _ in range(_AT_ONCE)))


async def _reaches(operator: Operator, metric: str, count: int) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while await asyncio.to_thread(operator.metric, metric) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{metric} did not reach {count}")
        await asyncio.sleep(0.5)


def _calls(metrics: dict[str, float]) -> float:
    calls = {name: value for name, value in metrics.items() if name.startswith("modelwright_api_calls_total{")}
    return sum(value for name, value in calls.items() if not any(f'verb="{verb}"' in name for verb in _OVERHEAD))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _mib(metrics: dict[str, float]) -> float:
    return round(metrics["process_resident_memory_bytes"] / 2**20, 1)


async def _runs(kubeconfig: Path, log: Path, count: int, runs: int) -> list[Run]:
    configuration = Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    client = Client(configuration, Metrics())
    bench = Bench(kubeconfig, log, client)
    bench.kubectl.apply([yaml.safe_load(path.read_text()) for path in sorted((_ROOT / "crds").glob("*.yaml"))])
    bench.kubectl.run("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
    done = []
    try:
        for _ in range(runs):
            done.append(await bench.run(count))
            print(json.dumps(asdict(done[-1])), file=sys.stderr, flush=True)
    finally:
        await client.close()
    return done


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one line of JSON; one of each run, and a summary, go to standard error."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.throughput", description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, control_plane(controller_manager=True) as kubeconfig:
        done = asyncio.run(_runs(kubeconfig, Path(folder) / "operator.log", options.objects, options.runs))
    rates = [run.objects_per_second for run in done]
    spread = stdev(rates) if len(rates) > 1 else 0.0
    share = mean(run.share for run in done)
    rate = f"{mean(rates):.1f} ± {spread:.1f} objects per second"
    print(f"{rate} in {len(rates)} runs, {share:.0%} of the bare rate", file=sys.stderr)
    memory = round(mean(run.rss_mib for run in done), 1)
    results.tell("throughput", {"runs": [asdict(run) for run in done], "share": round(share, 3), "rss_mib": memory})


if __name__ == "__main__":
    main()
