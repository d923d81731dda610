"""`python -m e2e.bench.startup`: seconds from the creation of a TrainingJob of two workers to its first step, by phase.

On the cluster that runs (`python -m e2e.cluster up`), in the namespace `bench`. Beside the recipe stands the same
work as a plain Indexed Job under torchrun. A cold start begins after the files of all images have left the page cache,
a warm one follows a start of the same image. Both are told as ratios to a script that imports torch and makes a step.
A round takes about four minutes on two cores.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

from e2e.bench import bare, cold, contenders, ground, results
from e2e.bench.contenders import Contender
from e2e.bench.ground import Ground
from e2e.bench.phases import PHASES, Start, start_of
from e2e.bench.watching import Watch
from e2e.cluster import progress

_LAST_STATES_SECONDS = 1.0


def start(ground_: Ground, contender: Contender) -> Start:
    """Start a contender, wait for its first step, and take it away."""
    with ground.running(ground_, contender) as watch:
        first = ground.await_first_step(ground_, contender, watch)
        # What came before the step may be heard of after it.
        time.sleep(_LAST_STATES_SECONDS)
        return _seen(contender, watch, first)


def _seen(contender: Contender, watch: Watch, first: float) -> Start:
    owners = [state for state in watch.states(contender.kind) if state.object["metadata"]["name"] == contender.title]
    return start_of(owners, watch.states("Job"), watch.states("Pod"), watch.lines(), first)


def summary(starts: Sequence[Start], unit: float) -> dict[str, Any]:
    """Return the medians of some starts: all in all, as a ratio to the unit, and by phase."""
    whole = results.middle(each.total for each in starts)
    phases = {phase: results.middle(each.seconds.get(phase) for each in starts) for phase in PHASES}
    return {
        "seconds": whole,
        "ratio": results.ratio(whole, unit),
        "each": [round(each.total, 1) for each in starts],
        "phases": {phase: seconds for phase, seconds in phases.items() if seconds is not None},
    }


def result(
    starts: Mapping[str, Mapping[str, Sequence[Start]]], units: Sequence[float], dropped: float
) -> dict[str, Any]:
    """Return the line's content: `starts` by contender and by `cold` and `warm`."""
    unit = median(units)
    told = {name: {how: summary(each, unit) for how, each in ways.items()} for name, ways in starts.items()}
    return {"unit_seconds": round(unit, 2), "dropped_mib": round(dropped), "contenders": told}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one line of JSON."""
    parser = ground.parser("startup", __doc__)
    ground.choice(parser, contenders.NAMES, ("recipe", "plain"))
    parser.add_argument("--rounds", type=int, default=3, help="starts of each kind (3)")
    options = parser.parse_args(arguments)
    with ground.opened(options.process_restarts) as place:
        # A node that is not this machine cannot be told to forget anything.
        ways = ("cold", "warm") if place.installation.target.local else ("warm",)
        starts: dict[str, dict[str, list[Start]]] = {name: {how: [] for how in ways} for name in options.contenders}
        units, dropped = [bare.seconds()], 0.0
        for number in range(options.rounds):
            for name in options.contenders:
                for how in ways:
                    if how == "cold":
                        dropped = max(dropped, cold.forget_images())
                    contender = contenders.make(name, place.setting, f"{name}-{how}-{number}")
                    done = ground.attempt(
                        f"round {number + 1}: {how} start of {name}", partial(start, place, contender)
                    )
                    if done is not None:
                        starts[name][how].append(done)
                        progress.say(f"{name}, {how}: {done.total:.1f} s")
            units.append(bare.seconds())
    results.tell("startup", result(starts, units, dropped))


if __name__ == "__main__":
    main()
