"""`python -m e2e.bench.throughput`: suspended TrainingJobs per second, from created to child Job and status.

Everything runs on this machine: etcd, the API server, the controllers, the operator and the creation of the objects
share its cores. The clock runs from the first creation until the operator has written the last status; then it is
checked that every object has its Job and its status. A restart follows, which must write nothing.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from e2e.bench.operator import Operator
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.standalone import control_plane
from modelwright.kube.client import Client
from modelwright.kube.metrics import Metrics
from modelwright.kube.resources import BY_PLURAL, JOB, Resource
from modelwright.plan.actions import Object

_ROOT = Path(__file__).resolve().parents[2]
_NAMESPACE = "default"
_CREATORS = 16
_JOBS = BY_PLURAL["trainingjobs"]
_LIMIT_SECONDS = 600.0
_OVERHEAD = ("list", "watch", "update")


@dataclass(frozen=True)
class Run:
    """One measurement."""

    objects: int
    seconds: float
    """From the first creation to the last status."""
    objects_per_second: float
    operator_cpu_seconds: float
    """Spent in those seconds."""
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


def template() -> Object:
    """Return the example TrainingJob, suspended."""
    document: Object = yaml.safe_load((_ROOT / "examples" / "trainingjob.yaml").read_text())
    document["spec"]["suspend"] = True
    return document


async def measure(kubeconfig: Path, log: Path, count: int) -> Run:
    """Create objects, wait for their Jobs and statuses, restart; then remove them."""
    configuration = Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    client = Client(configuration, Metrics())
    first, second = Operator(kubeconfig, log), Operator(kubeconfig, log)
    try:
        first.start()
        await asyncio.to_thread(first.await_leading)
        cpu = first.metric("process_cpu_seconds_total")
        begun = time.monotonic()
        await _create(client, count)
        await _settled(first, count)
        seconds = time.monotonic() - begun
        cpu = first.metric("process_cpu_seconds_total") - cpu
        await _check(client, count)
        await asyncio.sleep(3)
        after = first.metrics()
        first.stop()
        begun = time.monotonic()
        second.start()
        await asyncio.to_thread(second.await_leading, _LIMIT_SECONDS)
        restart = time.monotonic() - begun
        await _idle(second, count)
        again = second.metrics()
        return Run(
            objects=count,
            seconds=round(seconds, 2),
            objects_per_second=round(count / seconds, 1),
            operator_cpu_seconds=round(cpu, 2),
            rss_mib=_mib(after),
            status_writes_per_object=round(after["modelwright_status_writes_total"] / count, 3),
            reconciles_per_object=round(after["modelwright_reconcile_seconds_count"] / count, 2),
            calls_per_object=round(_calls(after) / count, 2),
            restart_seconds=round(restart, 1),
            restart_writes=int(second.writes()),
            restart_rss_mib=_mib(again),
        )
    finally:
        first.stop()
        second.stop()
        await _remove(client, Kubectl(kubeconfig))
        await client.close()


async def _create(client: Client, count: int) -> None:
    names = iter(range(count))
    base = template()

    async def creator() -> None:
        for number in names:
            metadata = {"name": f"bench-{number:05d}", "namespace": _NAMESPACE}
            await client.create(_JOBS, {**base, "metadata": metadata})

    await asyncio.gather(*(creator() for _ in range(_CREATORS)))


async def _settled(operator: Operator, count: int) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while await asyncio.to_thread(operator.metric, "modelwright_status_writes_total") < count:
        if time.monotonic() > deadline:
            raise TimeoutError("not every object got a status")
        await asyncio.sleep(0.5)


async def _idle(operator: Operator, count: int) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while True:
        found = await asyncio.to_thread(operator.metrics)
        if found.get("modelwright_reconcile_seconds_count", 0) >= count and not found["modelwright_queue_depth"]:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("the restarted operator did not look at every object")
        await asyncio.sleep(0.2)


async def _check(client: Client, count: int) -> None:
    jobs, objects = await _all(client, JOB), await _all(client, _JOBS)
    with_status = [entry for entry in objects if entry.get("status", {}).get("conditions")]
    if (len(jobs), len(with_status)) != (count, count):
        raise AssertionError(f"{count} objects, {len(jobs)} Jobs, {len(with_status)} statuses")


async def _all(client: Client, resource: Resource) -> list[Object]:
    return [item async for page, _ in client.list(resource, _NAMESPACE) for item in page]


async def _remove(client: Client, kubectl: Kubectl) -> None:
    await asyncio.to_thread(kubectl.run, "delete", _JOBS.plural, "--all", "--wait=false")
    # Children go by their owner references.
    while await _all(client, JOB) or await _all(client, _JOBS):  # noqa: ASYNC110 (the event is in another process)
        await asyncio.sleep(0.5)


def _calls(metrics: dict[str, float]) -> float:
    calls = {name: value for name, value in metrics.items() if name.startswith("modelwright_api_calls_total{")}
    return sum(value for name, value in calls.items() if not any(f'verb="{verb}"' in name for verb in _OVERHEAD))


def _mib(metrics: dict[str, float]) -> float:
    return round(metrics["process_resident_memory_bytes"] / 2**20, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one line of JSON a run and a summary."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.throughput", description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    rates = []
    with tempfile.TemporaryDirectory() as folder, control_plane(controller_manager=True) as kubeconfig:
        kubectl = Kubectl(kubeconfig)
        kubectl.apply([yaml.safe_load(path.read_text()) for path in sorted((_ROOT / "crds").glob("*.yaml"))])
        for _ in range(options.runs):
            run = asyncio.run(measure(kubeconfig, Path(folder) / "operator.log", options.objects))
            rates.append(run.objects_per_second)
            print(json.dumps(asdict(run)), flush=True)
    spread = stdev(rates) if len(rates) > 1 else 0.0
    print(f"{mean(rates):.1f} ± {spread:.1f} objects per second in {len(rates)} runs")


if __name__ == "__main__":
    main()
