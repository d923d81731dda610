"""`python -m e2e.bench.scaling`: steps per second of one, two and four workers that share the same CPUs and work.

On the cluster that runs, in the namespace `bench`. A step is always one pass over all rows, of which each worker has
its share; more workers bring no more CPUs (`--cpus`, those of the node by default), so whatever is slower than one
worker is what working together costs: messages, waiting, and an interpreter each. Beside the recipe stands the loop of
`e2e.bench.peer` in a plain Job under torchrun. Each number of workers takes about 100 s.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from e2e.bench import contenders, ground, results, steps
from e2e.bench.ground import Ground
from e2e.cluster import progress

_SETTLE_SECONDS = 10.0
# The status tells of a step some seconds later.
_TAIL_SECONDS = 5.0


def cpu_limit(cpus: int, workers: int) -> str:
    """Return the limit of each worker: its share of the CPUs, and never less than a thread can use.

    Less would have the kernel stop it for a part of each 100 ms, which is another question than this one.
    """
    return str(max(1, cpus // workers))


def pace(place: Ground, name: str, workers: int, cpus: int, seconds: float) -> float:
    """Return the steps per second of a gang that has settled."""
    setting = replace(place.setting, replicas=workers, cpu=cpu_limit(cpus, workers))
    contender = contenders.make(name, setting, f"{name}-{workers}")
    with ground.running(place, contender) as watch:
        first = ground.await_first_step(place, contender, watch)
        begin = first + _SETTLE_SECONDS
        time.sleep(max(0.0, begin + seconds + _TAIL_SECONDS - time.time()))
        return steps.speed(contender.course(watch), begin, begin + seconds + _TAIL_SECONDS)


def result(paces: Mapping[str, Mapping[int, float]], cpus: int) -> dict[str, Any]:
    """Return the line's content: `paces` are steps per second by contender and number of workers."""
    told = {}
    for name, by_workers in paces.items():
        alone = by_workers.get(1)
        told[name] = [
            {"workers": workers, "steps_per_second": round(each, 2), "loss": loss(each, alone)}
            for workers, each in sorted(by_workers.items())
        ]
    return {"cpus": cpus, "contenders": told}


def loss(pace: float, alone: float | None) -> float | None:
    """Return by what share of the pace of one worker a pace is slower; negative where it is faster."""
    share = results.ratio(pace, alone, 4)
    return None if share is None else round(1 - share, 3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one line of JSON."""
    parser = ground.parser("scaling", __doc__)
    ground.choice(parser, ("recipe", "loop", "plain"), ("recipe", "plain"))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="numbers of workers (1 2 4)")
    parser.add_argument("--seconds", type=float, default=40, help="how long each is measured (40)")
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1, help="that all workers share")
    options = parser.parse_args(arguments)
    paces: dict[str, dict[int, float]] = {name: {} for name in options.contenders}
    with ground.opened(options.process_restarts) as place:
        for workers in options.workers:
            for name in options.contenders:
                who, work = f"{name} with {workers} workers", partial(pace, place, name, workers)
                found = ground.attempt(who, partial(work, options.cpus, options.seconds))
                if found is not None:
                    paces[name][workers] = found
                    progress.say(f"{who}: {found:.2f} steps per second")
    results.tell("scaling", result(paces, options.cpus))


if __name__ == "__main__":
    main()
