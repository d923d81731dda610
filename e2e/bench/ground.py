"""Where contenders run: an installed operator, a namespace of one's own, rows on S3; and each run from start to end."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from e2e.bench import steps
from e2e.bench.contenders import Contender, Setting
from e2e.bench.watching import Watch
from e2e.cluster import progress
from e2e.cluster.errors import ClusterError
from e2e.cluster.target import resolve
from e2e.support import flights
from e2e.support.install import Installation
from e2e.support.operator_pods import OperatorPods
from e2e.support.resources import Resources, WaitedInVainError
from e2e.support.rows import parquet

T = TypeVar("T")

_PREFIX = "bench"
_NAMESPACE = "bench"
_ROWS = 6_000
FIRST_STEP_SECONDS = 420.0
_GONE_SECONDS = 90.0
_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Ground:
    """The place."""

    installation: Installation
    resources: Resources
    setting: Setting


@contextmanager
def opened(restarts: int) -> Iterator[Ground]:
    """Install the operator, make the namespace and bring the rows; the namespace goes in the end.

    `restarts`: see `Setting.restarts`.
    """
    # Whoever ends the benchmark early, as timeout(1) does, must not be left with pods that train without end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        target = resolve()
    except ClusterError as error:
        sys.exit(f"error: {error}")
    installation = Installation(target, _PREFIX)
    with progress.step("installing the operator, bringing rows"):
        installation.install()
        OperatorPods(target).await_leader()
        resources = installation.fresh_namespace(_NAMESPACE)
        installation.open_storage(_NAMESPACE)
        bucket = installation.bucket
        bucket.clear()
        rows = parquet(flights.season(flights.WINTER, _ROWS, seed=1))
        data, endpoint, image = bucket.put("rows.parquet", rows), target.s3.endpoint, target.images["runtime"]
        setting = Setting(data, bucket.uri, endpoint, image, restarts=restarts)
    try:
        yield Ground(installation, resources, setting)
    finally:
        installation.discard_namespaces([_NAMESPACE])


@contextmanager
def running(ground: Ground, contender: Contender) -> Iterator[Watch]:
    """Create a contender and watch it; in the end all of it is gone, so that the next one has the machine to itself."""
    resources = ground.resources
    with Watch(resources.kubectl, resources.namespace) as watch:
        try:
            resources.apply(*contender.objects)
            yield watch
        finally:
            _clear(resources, contender)


def attempt(what: str, work: Callable[[], T]) -> T | None:
    """Return what one measurement gives; None, with the reason told, where it failed: the others still count."""
    try:
        with progress.step(what):
            return work()
    except (WaitedInVainError, ClusterError) as error:
        progress.say(f"{what}: failed: {error}")
        return None


def await_first_step(ground: Ground, contender: Contender, watch: Watch) -> float:
    """Return when a contender made its first step. Raises WaitedInVainError."""
    found = watch.wait(lambda: steps.first_step(contender.course(watch)), FIRST_STEP_SECONDS)
    if found is None:
        raise WaitedInVainError(ground.resources.autopsy(contender.kind, contender.title))
    return found


def parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what all benchmarks on the cluster are asked."""
    made = argparse.ArgumentParser(
        prog=f"python -m e2e.bench.{prog}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The result is one line of JSON on standard output; e2e.bench.page makes tables and plots of them.",
    )
    made.add_argument(
        "--process-restarts",
        type=int,
        default=0,
        metavar="N",
        help="restarts by torchrun within a pod, of the loop and of the plain Job alike (0, which is its default)",
    )
    return made


def choice(made: argparse.ArgumentParser, names: Sequence[str], default: Sequence[str]) -> None:
    """Let contenders be chosen."""
    shown = " ".join(default)
    made.add_argument("--contenders", nargs="+", choices=names, default=[*default], help=f"who is compared ({shown})")


def _clear(resources: Resources, contender: Contender) -> None:
    for entry in reversed(contender.objects):
        resources.delete(entry["kind"], entry["metadata"]["name"], "--wait=false")
    deadline = time.monotonic() + _GONE_SECONDS
    while pods := [pod["metadata"]["name"] for pod in resources.list("pods")]:
        if time.monotonic() > deadline:
            raise WaitedInVainError(f"pods do not go: {', '.join(pods)}")
        # They have nothing to save: nobody will go on with what they did.
        resources.kubectl.run(
            "delete",
            "pod",
            *pods,
            f"--namespace={resources.namespace}",
            "--grace-period=0",
            "--force",
            "--wait=false",
            "--ignore-not-found",
        )
        time.sleep(1)
