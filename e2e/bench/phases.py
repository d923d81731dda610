"""A start of a gang, cut into phases: from the object's creation to the first step."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from e2e.bench.steps import Line
from e2e.bench.watching import State, began
from e2e.support.resources import Object

PHASES = {
    "admitted": "the Job exists and may start its pods",
    "pods": "all pods exist",
    "scheduled": "all have their node",
    "running": "all containers run: volumes, network, image",
    "imports": "the program has begun: interpreter, launchers, imports",
    "rendezvous": "the processes have joined, and imported what they need for that",
    "data": "the rows are read",
    "step": "the model is made and the first step done",
}
"""In their order; each begins where the one before it ended."""

_MARKS = {
    "imports": re.compile(r"\bbench imported\b|\brun \S+/\S+, attempt \d"),
    "rendezvous": re.compile(r"\bbench joined\b|\bprocess 1 of \d"),
    "data": re.compile(r"\bbench read\b|\bread \d+ rows\b"),
}


@dataclass(frozen=True)
class Start:
    """What was seen of a start; times by the wall clock."""

    created: float
    ends: Mapping[str, float]
    """When each phase was over, as far as that was seen."""

    @property
    def seconds(self) -> dict[str, float]:
        """How long each phase took. What was not seen is a part of the next phase that was."""
        found, before = {}, self.created
        for phase in PHASES:
            if phase in self.ends:
                # Streams of different kinds may be heard in another order than things happened.
                end = max(before, self.ends[phase])
                found[phase], before = end - before, end
        return found

    @property
    def total(self) -> float:
        """From the creation to the first step."""
        return max(self.ends.values(), default=self.created) - self.created


def start_of(
    owners: Sequence[State], jobs: Iterable[State], pods: Iterable[State], lines: Iterable[Line], first: float
) -> Start:
    """Return the start of a gang whose first step was done at `first`; `owners` are states of what a user created."""
    ends = {"step": first}
    admitted = [state.at for state in jobs if not state.object["spec"].get("suspend")]
    if admitted:
        ends["admitted"] = admitted[0]
    seen = list(pods)
    for phase, holds in (("pods", lambda _: True), ("scheduled", _scheduled), ("running", began)):
        times: dict[str, float] = {}
        for state in seen:
            if holds(state.object):
                times.setdefault(state.object["metadata"]["uid"], state.at)
        if times:
            ends[phase] = max(times.values())
    told = sorted(lines, key=lambda line: line.at)
    for phase, mark in _MARKS.items():
        at = next((line.at for line in told if mark.search(line.text)), None)
        if at is not None:
            ends[phase] = at
    return Start(owners[0].at, {phase: at for phase, at in ends.items() if at <= first})


def _scheduled(pod: Object) -> bool:
    return bool(pod["spec"].get("nodeName"))
