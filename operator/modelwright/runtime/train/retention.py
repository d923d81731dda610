"""Which checkpoints stay: a pure function of what there is and what the user wants."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from modelwright.api.checkpoint import Keep, KeepBest, Mode


@dataclass(frozen=True)
class Kept:
    """A complete checkpoint, as far as pruning goes."""

    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)


def superfluous(present: Iterable[int], complete: Sequence[Kept], keep: Keep, written: int) -> list[int]:
    """Return the steps whose checkpoints are to be deleted, ascending, once that of step `written` is complete.

    `present` are the steps under which anything lies; what of them is not complete is debris. What lies beyond
    `written` was left by an attempt that was cut off and stays: this one will come by there again.
    """
    candidates = sorted((entry for entry in complete if entry.step <= written), key=lambda entry: entry.step)
    kept = {written, *_last(candidates, keep.last), *_best(candidates, keep.best), *_trail(candidates, keep)}
    return sorted(step for step in set(present) if step < written and step not in kept)


def _last(entries: Sequence[Kept], count: int) -> list[int]:
    return [entry.step for entry in entries[-count:]]


def _best(entries: Sequence[Kept], best: KeepBest | None) -> list[int]:
    if best is None:
        return []
    sign = 1 if best.mode is Mode.MIN else -1
    measured = [
        (sign * value, -entry.step)
        for entry in entries
        if (value := entry.metrics.get(best.metric)) is not None and math.isfinite(value)
    ]
    # Of equals the newest.
    return [-step for _, step in sorted(measured)[: best.count]]


def _trail(entries: Sequence[Kept], keep: Keep) -> list[int]:
    """Return the first step in each stretch of `keep.every_steps`: whoever was first once is so for good."""
    if keep.every_steps is None:
        return []
    first: dict[int, int] = {}
    for entry in entries:
        first.setdefault(entry.step // keep.every_steps, entry.step)
    return list(first.values())
