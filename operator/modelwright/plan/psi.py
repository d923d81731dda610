"""The population stability index of binned counts, and how large it may be by chance.

A fixed bound on the index (0.1, 0.25) calls for retraining far too often on small samples and too rarely on large ones.
Where nothing has shifted, the index of samples of n and m rows in B bins follows (1/n + 1/m) times a chi-square
variable with B - 1 degrees of freedom (Yurdakul and Naranjo, "Statistical properties of the population stability
index"), so the bound here grows with the noise. The approximation needs some rows in every bin; two measures, neither
of which can make two equal distributions look different, see to that:

- bins with fewer than five rows both seen and expected in the live sample are put together (Cochran's rule);
- one row of the smaller sample is added to every bin of both samples, as the same share of each, which keeps empty bins
  from an infinite index. Mixing both distributions with the same third one never raises a divergence between them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelwright.plan import chi_square

_SPARSE = 5
_PSEUDO_ROWS = 1.0


@dataclass(frozen=True)
class Shift:
    """How far one column has moved, and how far it may by chance."""

    psi: float
    critical: float

    def beyond(self, smallest: float) -> bool:
        """Tell whether the shift is neither chance nor smaller than anybody cares about."""
        return self.psi > max(self.critical, smallest)


def compare(reference: Sequence[int], live: Sequence[int], alpha: float) -> Shift | None:
    """Return the shift between two samples, given as rows in the same bins, with a false-alarm rate of `alpha`.

    None where there is nothing to compare: no rows on one side, or counts of different layouts.
    """
    n, m = sum(reference), sum(live)
    if len(reference) != len(live) or n <= 0 or m <= 0:
        return None
    pairs = _merged(reference, live, n, m)
    if len(pairs) < 2:
        return Shift(0.0, 0.0)
    share = _PSEUDO_ROWS / min(n, m)
    whole = 1 + share * len(pairs)
    index = sum(_term((there / n + share) / whole, (here / m + share) / whole) for there, here in pairs)
    return Shift(index, chi_square.critical(len(pairs) - 1, alpha) * (1 / n + 1 / m))


def add(samples: Iterable[Sequence[int]], bins: int) -> tuple[int, ...]:
    """Return the bin-wise sum of counts, such as those of several replicas and windows."""
    total = [0] * bins
    for counts in samples:
        total = [sum(pair) for pair in zip(total, counts, strict=True)]
    return tuple(total)


def _term(expected: float, actual: float) -> float:
    return (actual - expected) * math.log(actual / expected)


def _merged(reference: Sequence[int], live: Sequence[int], n: int, m: int) -> list[tuple[int, int]]:
    dense: list[tuple[int, int]] = []
    rest_there = rest_here = 0
    for there, here in zip(reference, live, strict=True):
        # A bin that fills up with live rows counts even if training never saw it: it is the drift one looks for.
        if max(there * m / n, here) >= _SPARSE:
            dense.append((there, here))
        else:
            rest_there += there
            rest_here += here
    return [*dense, (rest_there, rest_here)] if rest_there or rest_here else dense
