"""`python -m e2e.bench.recovery`: seconds from SIGKILL of one of two workers to the next step, without Kubernetes.

Everything runs on this machine: an S3 server, two agents with a process each, and who takes their reports. Beside the
restart in place stands what one would have without us: the same program under torchrun, with its default of no
restarts, in a loop of the shell that starts it anew. Both are ratios to the cold start of a bare script (import torch,
one step), so that they can be compared between machines; the load is told, because the same cores do all of it.
"""

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from e2e.bench import bare, results
from e2e.cluster import storage
from e2e.cluster.standalone import s3_server
from e2e.support.agents import LocalGang, local_gang
from e2e.support.rows import noisy, parquet
from modelwright.api.run import ResolvedStorage, Run, TrainingReport
from modelwright.registry.store import Credentials, ObjectStore, open_store

_CREDENTIALS = Credentials("modelwright", "bench-secret")
_SETTLE_SECONDS = 5
_ROWS = 2000


@dataclass(frozen=True)
class Recovery:
    """What a kill cost."""

    seconds: float
    """Until the next step."""
    process_seconds: float
    """Of them, those that the new process of rank 0 needed from its start to that step."""
    steps: int
    """Made again."""


def recoveries(run: Run, rounds: int, *, plain: bool) -> Iterator[Recovery]:
    """Yield what became of each kill."""
    keys = {"AWS_ACCESS_KEY_ID": _CREDENTIALS.access_key_id, "AWS_SECRET_ACCESS_KEY": _CREDENTIALS.secret_access_key}
    with tempfile.TemporaryDirectory() as folder:
        restarts = 0 if plain else rounds
        with local_gang(run, Path(folder), keys, restarts=restarts, plain=plain) as gang:
            life = ""
            for _ in range(rounds):
                _, report = gang.wait(partial(_saved, after=life))
                life = _life(report)
                time.sleep(_SETTLE_SECONDS)
                yield _killed(gang, life)


def _killed(gang: LocalGang, life: str) -> Recovery:
    """Kill the process of rank 1, and wait for the first step of the processes that come after the present ones."""
    victim, killed = gang.workers()[1], time.monotonic()
    os.kill(victim, signal.SIGKILL)
    when, report = gang.wait(lambda report: _life(report) > life and report.progress is not None)
    made = [_step(told) for _, told in gang.reports if _life(told) == life]
    own = report.spent.starting if report.spent is not None else 0.0
    # A checkpoint may be newer than the last report of those that are gone.
    return Recovery(when - killed, own, max(0, max(made) - (report.resumed_from_step or 0)))


def _life(report: TrainingReport) -> str:
    """Return which process of rank 0 told it: when that one began."""
    return report.spent.since if report.spent is not None else ""


def _saved(report: TrainingReport, after: str) -> bool:
    return _life(report) > after and report.checkpoint is not None


def _step(report: TrainingReport) -> int:
    return report.progress.step if report.progress is not None else 0


@contextmanager
def _place() -> Iterator[tuple[ObjectStore, str]]:
    account = storage.Credentials(_CREDENTIALS.access_key_id, _CREDENTIALS.secret_access_key)
    with s3_server(account, "bucket") as endpoint:
        store = open_store(ResolvedStorage(uri="s3://bucket/bench", endpoint=endpoint), _CREDENTIALS)
        store.write("rows.parquet", parquet(noisy(_ROWS)))
        yield store, endpoint


def _run(store: ObjectStore, endpoint: str, uid: str) -> Run:
    recipe = {"task": "Classification", "target": "y", "neuralNetwork": {"epochs": 100000, "batchSize": 65536}}
    training = {
        "workers": {"replicas": 2},
        "recipe": {"tabular": recipe},
        "dataset": {"uri": store.locate("rows.parquet")},
        "model": {"name": "m"},
        "checkpoint": {"everySeconds": 1},
    }
    place = {"uri": store.uri, "endpoint": endpoint}
    document = {"namespace": "ns", "name": uid, "uid": uid, "attempt": 1, "storage": place, "training": training}
    return Run.model_validate(document)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often a worker is killed, each way (3)")
    rounds = parser.parse_args(arguments).rounds
    cold, taken = [bare.seconds()], {}
    with _place() as (store, endpoint):
        for name, plain in (("in-place", False), ("loop", True)):
            taken[name] = list(recoveries(_run(store, endpoint, name), rounds, plain=plain))
            cold.append(bare.seconds())
    result: dict[str, object] = {"rounds": rounds, "cold_seconds": [round(each, 1) for each in cold]}
    for name, found in taken.items():
        seconds = [each.seconds for each in found]
        result[name] = {
            "seconds": [round(each, 1) for each in seconds],
            "ratio": round(median(seconds) / median(cold), 2),
            "of_which_process": [round(each.process_seconds, 1) for each in found],
            "steps_made_again": [each.steps for each in found],
        }
    results.tell("recovery", result)


if __name__ == "__main__":
    main()
