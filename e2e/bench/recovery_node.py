"""`python -m e2e.bench.recovery_node`: seconds on the cluster from a fault to the next training step.

On the cluster that runs, in the namespace `bench`: a killed process, a deleted pod, the pod of the first worker (Ray's
head, or torchrun's rendezvous), all pods at once, and a node that vanishes. Each fault is the first in the life of a
new object, so that a plain Job's back-off, which doubles each time, is at its shortest. Times are ratios to a script
that imports torch and makes a step. A fault takes one to three minutes, start included. For the loss of a node the
local cluster gets a second one, on which one of the two workers runs; Kubernetes says after 50 s that it does not
answer, and replaces the pods of a plain Job five minutes later. Steps made again are those that were told: a recipe
tells every few seconds, the loop five times a second. `python -m e2e.bench.recovery` measures a process without
Kubernetes.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from e2e.bench import bare, contenders, ground, results, steps
from e2e.bench.contenders import Contender
from e2e.bench.faults import Fault, Kind, hit, is_there
from e2e.bench.ground import Ground
from e2e.cluster import progress, second_node
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Layout
from e2e.scenarios import placement

_LIMIT_SECONDS, _NODE_LIMIT_SECONDS = 300.0, 900.0
_CHECKPOINTS = 3
"""So many are due before the fault comes."""
_FIRST_RANK, _OTHER_RANK = 0, 1
# They would lose their node as a recipe does, and as the plain Job.
_NOT_MET = dict.fromkeys(("loop", "ray", "raytrain"), (Kind.NODE,))
# The furthest step of the life that was lost is told some seconds later.
_TAIL_SECONDS = 5.0


@dataclass(frozen=True)
class Recovery:
    """What a fault cost."""

    seconds: float | None
    """Until the next step; None where there was none in five minutes, or in fifteen for a node."""
    steps: int
    """Made again, as far as they were told."""


def recover(place: Ground, name: str, kind: Kind, number: int) -> Recovery:
    """Start a contender, let it save, hit it, and wait for its next step. Raises ClusterError."""
    made = contenders.make(name, place.setting, f"{name}-{kind}-{number}")
    with _stage(made, kind) as contender, ground.running(place, contender) as watch:
        ground.await_first_step(place, contender, watch)
        time.sleep(_CHECKPOINTS * place.setting.every)
        if kind is Kind.NODE:
            _require_two_nodes(place)
        done = hit(place.resources, Fault(0, kind, _FIRST_RANK if kind is Kind.HEAD else _OTHER_RANK))
        if done is None:
            return Recovery(None, 0)
        limit = _NODE_LIMIT_SECONDS if kind is Kind.NODE else _LIMIT_SECONDS
        seconds = watch.wait(lambda: steps.recovery(contender.course(watch), done.at), limit)
        time.sleep(_TAIL_SECONDS)
        return Recovery(seconds, steps.lost(contender.course(watch)))


@contextmanager
def _stage(contender: Contender, kind: Kind) -> Iterator[Contender]:
    """Yield a contender as it can meet a fault: one whose node is to be lost has two, anew each time."""
    if kind is not Kind.NODE:
        yield contender
        return
    with second_node.borrowed(Layout.default()):
        objects = [*placement.anchors(), *map(placement.on_two_nodes, contender.objects)]
        yield replace(contender, objects=objects)


def _require_two_nodes(place: Ground) -> None:
    nodes = placement.nodes_of(pod for pod in place.resources.list("pods") if is_there(pod))
    if nodes != placement.NODES:
        raise ClusterError(f"the workers run on {' and '.join(nodes)}, not on {' and '.join(placement.NODES)}")


def faults_of(name: str, kinds: Sequence[Kind], *, local: bool = True) -> list[Kind]:
    """Return those of some faults that a contender can meet; a node can be lost on the local cluster only."""
    not_met = (*_NOT_MET.get(name, ()), *(() if local else (Kind.NODE,)))
    return [kind for kind in kinds if kind not in not_met]


def summary(found: Sequence[Recovery], unit: float) -> dict[str, Any]:
    """Return what is told of one contender and one kind of fault."""
    middle = results.middle(each.seconds for each in found)
    return {
        "seconds": middle,
        "ratio": results.ratio(middle, unit),
        "each": [None if each.seconds is None else round(each.seconds, 1) for each in found],
        "steps_lost": [each.steps for each in found],
    }


def result(
    found: Mapping[str, Mapping[Kind, Sequence[Recovery]]], units: Sequence[float], rounds: int
) -> dict[str, Any]:
    """Return the line's content."""
    unit = median(units)
    told = {name: {str(kind): summary(each, unit) for kind, each in kinds.items()} for name, kinds in found.items()}
    return {"unit_seconds": round(unit, 2), "rounds": rounds, "contenders": told}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one line of JSON."""
    parser = ground.parser("recovery_node", __doc__)
    ground.choice(parser, contenders.NAMES, contenders.NAMES)
    parser.add_argument("--rounds", type=int, default=3, help="how often each fault is done (3)")
    parser.add_argument("--faults", type=Kind, nargs="+", choices=[*Kind], default=[*Kind], help="which faults (all)")
    options = parser.parse_args(arguments)
    found: dict[str, dict[Kind, list[Recovery]]] = {}
    units = [bare.seconds()]
    with ground.opened(options.process_restarts) as place:
        local = place.installation.target.local
        for number in range(options.rounds):
            for name in options.contenders:
                for kind in faults_of(name, options.faults, local=local):
                    work = partial(recover, place, name, kind, number)
                    each = ground.attempt(f"round {number + 1}: {name}, {kind}", work) or Recovery(None, 0)
                    found.setdefault(name, {}).setdefault(kind, []).append(each)
                    progress.say(f"{name}, {kind}: {each.seconds} s, {each.steps} steps made again")
            units.append(bare.seconds())
    results.tell("recovery_node", result(found, units, options.rounds))


if __name__ == "__main__":
    main()
