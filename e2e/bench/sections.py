"""What the page of benchmarks says of each of them: a sentence, a table, and bars."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.bench.bars import Bar
from e2e.bench.phases import PHASES

_NAMES = {
    "recipe": "TrainingJob, recipe",
    "loop": "TrainingJob, own loop",
    "plain": "plain Job, torchrun",
    "ray": "TrainingJob, recipe on Ray",
    "raytrain": "plain Job, Ray Train",
}
_FAULTS = {
    "process": "a worker's process killed",
    "pod": "a worker's pod deleted",
    "head": "the first worker's pod deleted",
    "gang": "all pods deleted",
    "node": "a worker's node lost",
}
_MINUTES = "node"
"""Beside it all other bars would be dots."""
_NOT_IN_PLOT = " A lost node, of which Kubernetes itself says nothing for 50 s, is in the table only."
NOTHING = "-"

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """One benchmark on the page."""

    title: str
    text: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[Bar] = ()
    unit: str = ""
    line: float | None = None
    """Marked in the plot."""

    @property
    def table(self) -> str:
        """Return the table in Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def recovery_node(result: Result) -> Section:
    """From a fault on the cluster to the next step."""
    found, unit = result["contenders"], result["unit_seconds"]
    kinds = [kind for kind in _FAULTS if any(kind in told for told in found.values())]
    rows = [[_FAULTS[kind], *(_recovered(told.get(kind)) for told in found.values())] for kind in kinds]
    bars = [
        Bar(f"{kind}: {name}", [(_NAMES[name], told[kind]["ratio"])])
        for kind in kinds
        if kind != _MINUTES
        for name, told in found.items()
        if told.get(kind, {}).get("ratio") is not None
    ]
    text = (
        f"Seconds from a fault to the next training step, medians of {result['rounds']}; in brackets as a ratio to a "
        f"bare script that imports torch and makes a step, which took {unit:.1f} s in the same run (1 in the plot)."
        f"{_NOT_IN_PLOT if _MINUTES in kinds else ''}"
    )
    return Section("Recovery on the cluster", text, ["fault", *_titles(found)], rows, bars, line=1.0)


def recovery(result: Result) -> Section:
    """From a killed process to the next step, without Kubernetes."""
    kinds = {"in-place": "a recipe, in its pods", "loop": "torchrun in a loop of the shell"}
    found = {title: result[kind] for kind, title in kinds.items() if kind in result}
    rows = [
        [title, _all(told["seconds"]), f"{told['ratio']:.2f}", _all(told["steps_made_again"])]
        for title, told in found.items()
    ]
    text = (
        f"Seconds from SIGKILL of one of two processes to the next step, and their median as a ratio to a bare script "
        f"({_all(result['cold_seconds'])} s)."
    )
    bars = [Bar(title, [("ratio", told["ratio"])]) for title, told in found.items()]
    return Section(
        "Recovery of a process, without Kubernetes",
        text,
        ["", "seconds", "ratio", "steps made again"],
        rows,
        bars,
        line=1.0,
    )


def goodput(result: Result) -> Section:
    """What faults leave of a training."""
    found = result["contenders"]
    kinds = [kind for kind in _FAULTS if any(kind in told["recovery"] for told in found.values())]
    rows = [
        [
            _NAMES[name],
            f"{told['share']:.1%}",
            _number(told["ratio"]),
            _share(told.get("status", {}).get("share")),
            str(told["steps_lost"]),
            *(_number(told["recovery"].get(kind, {}).get("median_seconds")) for kind in kinds),
        ]
        for name, told in found.items()
    ]
    text = (
        f"A fault every {result['every_seconds']:.0f} s for {result['minutes']:g} minutes, and a checkpoint every "
        f"{result.get('checkpoint_seconds', 5)} s. Goodput: the steps by which each got further, as a share of those "
        "at its own speed without faults. Recovery: median seconds to the next step, of the faults that were over "
        "before the next one came. Steps lost are those that were told: a recipe tells them every few seconds only."
    )
    head = ["", "goodput", "ratio to plain", "`status.goodput.share`", "steps lost", *(f"{kind}, s" for kind in kinds)]
    bars = [Bar(_NAMES[name], [("goodput", told["share"])], f"{told['share']:.1%}") for name, told in found.items()]
    return Section("Goodput under faults", text, head, rows, bars, line=1.0)


def startup(result: Result) -> Section:
    """From the object to the first step."""
    starts = {
        f"{_NAMES[name]}, {how}": told
        for name, ways in result["contenders"].items()
        for how, told in ways.items()
        if told["seconds"] is not None
    }
    seen = [phase for phase in PHASES if any(phase in told["phases"] for told in starts.values())]
    rows = [
        [f"{phase}: {PHASES[phase]}", *(_number(told["phases"].get(phase)) for told in starts.values())]
        for phase in seen
    ]
    rows.append(["all", *(_number(told["seconds"]) for told in starts.values())])
    rows.append(["as a ratio to a bare script", *(_number(told["ratio"]) for told in starts.values())])
    text = (
        "Seconds from the creation of the object to the first step of two workers, medians. Cold: "
        f"{result['dropped_mib']} MiB of images had left the page cache. The bare script took "
        f"{result['unit_seconds']:.1f} s."
    )
    bars = [Bar(title, [*told["phases"].items()], f"{told['seconds']:.1f} s") for title, told in starts.items()]
    return Section("Start-up", text, ["until", *starts], rows, bars, " s")


def scaling(result: Result) -> Section:
    """What working together costs."""
    found = result["contenders"]
    counts = sorted({each["workers"] for told in found.values() for each in told})
    by_count = {name: {each["workers"]: each for each in told} for name, told in found.items()}
    rows = [[str(count), *(_pace(told.get(count)) for told in by_count.values())] for count in counts]
    bars = [
        Bar(f"{name}, {count}", [(_NAMES[name], 1 - told[count]["loss"])], f"{1 - told[count]['loss']:.0%}")
        for name, told in by_count.items()
        for count in counts
        if count in told and told[count]["loss"] is not None
    ]
    text = (
        f"Steps per second over the same rows on the same {result['cpus']} CPUs, and in brackets by how much slower "
        "than one worker (the plot: as a share of its pace)."
    )
    return Section("Workers that share CPUs", text, ["workers", *_titles(found)], rows, bars, line=1.0)


def checkpoint_stall(result: Result) -> Section:
    """How long training waits for a checkpoint."""
    rows, bars = [], []
    for each in result["sizes"]:
        size = f"{each['megabytes']} MB"
        waits = [each[f"{kind}_seconds"] for kind in ("step", "copy", "asynchronous", "synchronous")]
        shares = [each[f"{kind}_share"] for kind in ("copy", "asynchronous", "synchronous")]
        rows.append([size, *(f"{wait:.3f}" for wait in waits), *map(_share, shares)])
        bars += [
            Bar(f"{size}, asynchronous", [("share", shares[1])], _share(shares[1])),
            Bar(f"{size}, synchronous", [("share", shares[2])], _share(shares[2])),
        ]
    text = (
        "What a checkpoint takes from training, on a local disk and one thread of two: seconds of a step without one; "
        "that training waits for the copy; that with what steps beside the rest take longer, give or take their noise; "
        "and that it waits where it waits until the checkpoint is complete. The shares are of the "
        f"{result['interval_seconds']} s from one checkpoint to the next that are the default (the plot too)."
    )
    header = ["state", "step, s", "copy, s", "asynchronous, s", "synchronous, s", "copy", "asynchronous", "synchronous"]
    return Section("Checkpoint stall", text, header, rows, bars)


def throughput(result: Result) -> Section:
    """How fast the operator is."""
    rates = [f"{each['objects_per_second']:.1f}" for each in result["runs"]]
    rows = [[", ".join(rates), f"{result['share']:.0%}", _number(result["rss_mib"])]]
    text = "Suspended TrainingJobs from created to child Job and status, beside the same writes without an operator."
    return Section("The operator", text, ["objects per second", "of the bare rate", "memory, MiB"], rows)


SECTIONS: Mapping[str, Callable[[Result], Section]] = {
    "recovery_node": recovery_node,
    "recovery": recovery,
    "goodput": goodput,
    "startup": startup,
    "scaling": scaling,
    "checkpoint_stall": checkpoint_stall,
    "throughput": throughput,
}
"""By benchmark, in the order of the page."""


def _titles(found: Iterable[str]) -> list[str]:
    return [_NAMES[name] for name in found]


def _recovered(told: Result | None) -> str:
    if told is None or told["seconds"] is None:
        return NOTHING
    return f"{told['seconds']:.1f} ({told['ratio']:.2f})"


def _pace(told: Result | None) -> str:
    if told is None:
        return NOTHING
    return f"{told['steps_per_second']:.2f}" + (f" ({told['loss']:.0%})" if told["loss"] else "")


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}"


def _all(values: Iterable[float | None]) -> str:
    return ", ".join(NOTHING if value is None else f"{value:g}" for value in values)
