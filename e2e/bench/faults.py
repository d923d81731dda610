"""What is done to a training, and when: processes killed, pods deleted, a node lost."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from e2e.cluster import second_node
from e2e.cluster.paths import Layout
from e2e.support.resources import Object, Resources


class Kind(StrEnum):
    """What is lost."""

    PROCESS = "process"
    """The training process of a worker, by SIGKILL; its pod stays."""
    POD = "pod"
    """The pod of a worker that is not the first."""
    HEAD = "head"
    """The pod of the first worker: of Ray's head, or of torchrun's rendezvous."""
    GANG = "gang"
    """All pods at once."""
    NODE = "node"
    """The node of a worker that is not the first. It is the second node of the local cluster."""


@dataclass(frozen=True)
class Fault:
    """One of them."""

    after: float
    """Seconds from the beginning of the faults."""
    kind: Kind
    rank: int


@dataclass(frozen=True)
class Hit:
    """A fault that was done."""

    fault: Fault
    at: float
    """By the wall clock."""


_INDEX = "batch.kubernetes.io/job-completion-index"
# torchrun tells its processes their number in the environment; those of a recipe have a warm spare's, and a name, and
# those of Ray call themselves what they do.
_KILL = """
import os, signal, time
from pathlib import Path
for folder in Path("/proc").glob("[0-9]*"):
    try:
        named = (folder / "comm").read_text().startswith("rank-")
        named = named or (folder / "cmdline").read_bytes().startswith(b"ray::RayTrainWorker")
        found = named or b"\\0LOCAL_RANK=" in b"\\0" + (folder / "environ").read_bytes()
        if found and int(folder.name) != os.getpid():
            now = time.time()
            os.kill(int(folder.name), signal.SIGKILL)
            print(now, flush=True)
    except OSError:
        pass
"""


def schedule(
    seconds: float, every: float, replicas: int, seed: int, kinds: Sequence[Kind] = (Kind.PROCESS, Kind.POD)
) -> list[Fault]:
    """Return the faults of some time: one at the beginning of every interval, kinds in turn, workers by chance."""
    chance = random.Random(seed)  # noqa: S311 (the same faults for every contender)
    count = max(1, int(seconds // every))
    return [Fault(number * every, kinds[number % len(kinds)], chance.randrange(replicas)) for number in range(count)]


def hit(resources: Resources, fault: Fault) -> Hit | None:
    """Do it to what runs in a namespace; None where there was nothing to be hit."""
    if fault.kind is Kind.NODE:
        return Hit(fault, second_node.lose(Layout.default()))
    pods = {index_of(pod): pod["metadata"]["name"] for pod in resources.list("pods") if is_there(pod)}
    if fault.kind is Kind.GANG:
        return _delete(resources, fault, sorted(pods.values()))
    name = pods.get(0 if fault.kind is Kind.HEAD else fault.rank)
    if name is None:
        return None
    return _kill(resources, fault, name) if fault.kind is Kind.PROCESS else _delete(resources, fault, [name])


def index_of(pod: Object) -> int:
    """Return which worker of its gang a pod is."""
    return int(pod["metadata"].get("labels", {}).get(_INDEX, 0))


def is_there(pod: Object) -> bool:
    """Tell whether a pod waits or runs, and nobody has deleted it."""
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in ("Pending", "Running")


def _delete(resources: Resources, fault: Fault, names: Sequence[str]) -> Hit | None:
    if not names:
        return None
    now = time.time()
    where = (f"--namespace={resources.namespace}", "--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
    resources.kubectl.run("delete", "pod", *names, *where)
    return Hit(fault, now)


def _kill(resources: Resources, fault: Fault, pod: str) -> Hit | None:
    where = ("exec", pod, f"--namespace={resources.namespace}", "--", "python", "-c", _KILL)
    killed = resources.kubectl.attempt(*where).stdout.split()
    return Hit(fault, min(map(float, killed))) if killed else None
