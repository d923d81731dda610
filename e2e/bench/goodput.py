"""`python -m e2e.bench.goodput`: what is left of a training to which something happens every minute.

On the cluster that runs, in the namespace `bench`. In turn a process of a worker is killed and a pod deleted, of
workers drawn by a seed, the same for all. Goodput is the number of steps by which a contender got further, as a share
of those that it would have made at its own speed without faults, measured before and, where it still trains, after
them: a machine that others use may slow down by some percent meanwhile. A step that is made again
counts once. The first step after a fault is read off the log, the others of a recipe off its status, which tells them
up to five seconds late: some that were made again are not known. Contenders run one after the other, each for
`--minutes` with faults and twice `--calm` seconds without: with the defaults about 24 minutes each.

All save as often. That a save takes about 0.03 s of training and a fault comes every 60 s makes 2 s the best interval:
the square root of twice their product (J. W. Young, A first order approximation to the optimum checkpoint interval,
CACM 17(9), 1974).
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from e2e.bench import contenders, ground, results, steps
from e2e.bench.faults import Fault, Hit, hit, schedule
from e2e.bench.ground import Ground
from e2e.bench.steps import Course
from e2e.cluster import progress
from e2e.support.resources import Object

_SETTLE_SECONDS = 15.0
# The status tells of a step some seconds later.
_TAIL_SECONDS = 6.0


@dataclass(frozen=True)
class Trial:
    """What became of one contender."""

    course: Course
    calm: Sequence[tuple[float, float]]
    """From when to when its speed was measured, by the wall clock."""
    begin: float
    """From here on there were faults."""
    end: float
    hits: Sequence[Hit]
    book: Object
    """`status.goodput` in the end, where there is one."""


def trial(place: Ground, name: str, faults: Sequence[Fault], calm: float, seconds: float) -> Trial:
    """Run one contender."""
    contender = contenders.make(name, place.setting, name)
    with ground.running(place, contender) as watch:
        settled = ground.await_first_step(place, contender, watch) + _SETTLE_SECONDS
        progress.say(f"{name} makes steps; {calm:.0f} s without faults")
        begin = settled + calm
        hits = []
        for fault in faults:
            _sleep_until(begin + fault.after)
            done = hit(place.resources, fault)
            progress.say(f"{name}: {fault.kind} of worker {fault.rank}: {'lost' if done else 'was not there'}")
            hits += [done] if done else []
        end = begin + seconds
        _sleep_until(end + _TAIL_SECONDS)
        book = contenders.goodput(watch.states("TrainingJob"))
        _sleep_until(end + calm)
        return Trial(contender.course(watch), [(settled, begin), (end, end + calm)], begin, end, hits, book)


def summary(found: Trial, faults: int) -> dict[str, Any]:
    """Return what is told of a contender."""
    paces = [steps.speed(found.course, *window) for window in found.calm]
    pace = statistics.mean(pace for pace in paces if pace > 0) if any(paces) else 0.0
    told: dict[str, Any] = {
        "share": round(steps.useful_share(found.course, pace, found.begin, found.end), 3),
        "steps_per_second": round(pace, 2),
        "paces": [round(each, 2) for each in paces],
        "steps": round(steps.furthest(found.course, found.end) - steps.furthest(found.course, found.begin)),
        "steps_lost": steps.lost(found.course),
        "faults": faults,
        "hits": len(found.hits),
        "recovery": recoveries(found.course, found.hits, found.end),
    }
    if found.book:
        told["status"] = {"share": found.book.get("share"), "seconds": found.book.get("seconds", {})}
    return told


def recoveries(course: Course, hits: Sequence[Hit], end: float) -> dict[str, Any]:
    """Return by kind of fault the seconds to the next step; null where the next fault came before it."""
    found: dict[str, list[float | None]] = {}
    for this, following in pairwise([*hits, None]):
        if this is not None:
            until = following.at if following else end
            found.setdefault(this.fault.kind, []).append(steps.recovery(course, this.at, until))
    return {
        kind: {"median_seconds": results.middle(each), "seconds": [_rounded(one) for one in each]}
        for kind, each in found.items()
    }


def result(trials: Mapping[str, Mapping[str, Any]], asked: argparse.Namespace) -> dict[str, Any]:
    """Return the line's content, with each share as a ratio to the plain Job's where that ran."""
    plain = trials.get("plain", {}).get("share")
    return {
        "minutes": asked.minutes,
        "every_seconds": asked.every,
        "checkpoint_seconds": asked.checkpoint_every,
        "seed": asked.seed,
        "contenders": {name: {**each, "ratio": results.ratio(each["share"], plain)} for name, each in trials.items()},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one line of JSON."""
    parser = ground.parser("goodput", __doc__)
    ground.choice(parser, contenders.NAMES, ("recipe", "loop", "plain"))
    parser.add_argument("--minutes", type=float, default=20, help="with faults, for each contender (20)")
    parser.add_argument("--every", type=float, default=60, metavar="SECONDS", help="between faults (60)")
    parser.add_argument(
        "--checkpoint-every", type=int, default=2, metavar="SECONDS", help="between checkpoints, of all alike (2)"
    )
    parser.add_argument(
        "--calm", type=float, default=60, metavar="SECONDS", help="without faults before and after (60)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the workers that are hit (0)")
    options = parser.parse_args(arguments)
    seconds = options.minutes * 60
    trials: dict[str, dict[str, Any]] = {}
    with ground.opened(options.process_restarts) as opened:
        place = replace(opened, setting=replace(opened.setting, every=options.checkpoint_every))
        faults = schedule(seconds, options.every, place.setting.replicas, options.seed)
        for name in options.contenders:
            found = ground.attempt(name, partial(trial, place, name, faults, options.calm, seconds))
            if found is not None:
                trials[name] = summary(found, len(faults))
                progress.say(f"{name}: goodput {trials[name]['share']:.1%}")
    results.tell("goodput", result(trials, options))


if __name__ == "__main__":
    main()
