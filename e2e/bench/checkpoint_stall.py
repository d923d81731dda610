"""`python -m e2e.bench.checkpoint_stall`: how long training stands still for a checkpoint.

A network of some size is saved to a local folder through `modelwright.train`: once as it is, where training waits for
the copy to host memory alone, and once waiting until the checkpoint is complete, as a loop does that saves by itself.
Both in one run, each a few times; what can be compared between machines is the ratio of the medians.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch

from e2e.bench import results
from modelwright import train

_SIZES = (1, 100, 500)
"""MB of weights; the optimizer is left out, so this is all that is saved."""
_MB = 1_000_000
_BYTES = 4


@dataclass(frozen=True)
class Stall:
    """One size."""

    megabytes: int
    asynchronous_seconds: float
    """Median time that `checkpoint` takes before training goes on."""
    synchronous_seconds: float
    """Median time until the checkpoint is complete."""
    share: float
    """The first as a share of the second."""


def measure(megabytes: int, repeats: int) -> Stall:
    """Return what training waits for a state of so many megabytes."""
    rows = 8
    module = torch.nn.ParameterList(
        torch.nn.Parameter(torch.rand(megabytes * _MB // _BYTES // rows)) for _ in range(rows)
    )
    waited, whole = [], []
    with tempfile.TemporaryDirectory() as folder, train.session(folder) as session:
        for step in range(repeats + 1):
            stalled = _timed(partial(session.checkpoint, step, force=True, model=module))
            rest = _timed(session.wait)
            if step:  # the first one finds nothing in the caches
                waited.append(stalled)
                whole.append(stalled + rest)
    asynchronous, synchronous = statistics.median(waited), statistics.median(whole)
    return Stall(megabytes, round(asynchronous, 4), round(synchronous, 4), round(asynchronous / synchronous, 3))


def main() -> None:
    """Measure every size and print one line of JSON; a table goes to standard error."""
    parser = argparse.ArgumentParser(description="How long training stands still for a checkpoint.")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    found = [measure(size, arguments.repeats) for size in _SIZES]
    print("     MB   asynchronous s   synchronous s   share", file=sys.stderr)
    for stall in found:
        numbers = f"{stall.asynchronous_seconds:14.4f} {stall.synchronous_seconds:15.4f}"
        print(f"{stall.megabytes:7d} {numbers} {stall.share:10.1%}", file=sys.stderr)
    results.tell("checkpoint_stall", {"sizes": [asdict(stall) for stall in found]})


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
