"""`python -m e2e.bench.checkpoint_stall`: what a checkpoint takes from training.

A network of some size is trained on one thread and saved to a local folder through `modelwright.train`, which waits for
the copy to host memory alone; while the rest is done, steps go on, and may be slower. That, all in all, stands beside
saving as a loop does that waits until the checkpoint is complete. Both are told in seconds, and as a share of the time
from one checkpoint to the next, where there is one every 30 s, which is the default of `spec.checkpoint`. The largest
size needs 13 GB of memory.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from e2e.bench import results
from modelwright import train
from modelwright.api.checkpoint import DEFAULT_SECONDS
from modelwright.train import Session

_SIZES = (1, 100, 500, 2000)
"""MB of weights; plain SGD has no state, so this is all that is saved."""
_MB = 1_000_000
_BYTES = 4
_LAYERS, _INPUTS, _BATCH = 8, 512, 64
_LEAST_SECONDS = 1.0
"""Of steps beside which a checkpoint is put, so that a small one is not lost in the noise of one step."""


@dataclass(frozen=True)
class Stall:
    """One size; seconds are medians."""

    megabytes: int
    step_seconds: float
    """A step without a checkpoint."""
    copy_seconds: float
    """How long training waits for an asynchronous one."""
    asynchronous_seconds: float
    """The same, with what the steps beside the rest of it take longer than others; noise may make it less than that."""
    synchronous_seconds: float
    """How long training waits where it waits until the checkpoint is complete."""
    copy_share: float
    asynchronous_share: float
    synchronous_share: float


class Training:
    """Steps of linear layers over a small batch, so that they compute as well as read and write every weight."""

    def __init__(self, megabytes: int) -> None:
        outputs = megabytes * _MB // _BYTES // _LAYERS // _INPUTS
        self.module = torch.nn.ModuleList(torch.nn.Linear(_INPUTS, outputs, bias=False) for _ in range(_LAYERS))
        self._optimizer = torch.optim.SGD(self.module.parameters(), lr=0.001)
        self._batch = torch.rand(_BATCH, _INPUTS)

    def step(self) -> None:
        """Make one."""
        self._optimizer.zero_grad(set_to_none=False)
        for layer in self.module:
            layer(self._batch).square().mean().backward()
        self._optimizer.step()


@dataclass(frozen=True)
class Round:
    """What one checkpoint of each kind took, in seconds."""

    step: float
    copy: float
    asynchronous: float
    synchronous: float


def measure(megabytes: int, repeats: int, folder: Path) -> Stall:
    """Return what checkpoints of so many megabytes take."""
    training = Training(megabytes)
    with train.session(folder) as session:
        save = partial(session.checkpoint, force=True, model=training.module)
        training.step()
        save(0)  # the first one finds neither memory nor files
        session.wait()
        found = [_round(training, session, save, 2 * number + 1) for number in range(repeats)]
    return stall(megabytes, found)


def stall(megabytes: int, rounds: Sequence[Round]) -> Stall:
    """Return the medians of some rounds, and their shares."""
    step, copy, asynchronous, synchronous = (
        statistics.median(getattr(each, kind) for each in rounds)
        for kind in ("step", "copy", "asynchronous", "synchronous")
    )
    shares = (round(each / DEFAULT_SECONDS, 4) for each in (copy, asynchronous, synchronous))
    seconds = (round(each, 4) for each in (step, copy, asynchronous, synchronous))
    return Stall(megabytes, *seconds, *shares)


def _round(training: Training, session: Session, save: Callable[[int], bool], at: int) -> Round:
    count, calm = 0, 0.0
    while calm < _LEAST_SECONDS:
        calm += _timed(training.step)
        count += 1
    step = calm / count
    began = time.monotonic()
    copy = _timed(partial(save, at))
    steps = _steps_beside(training, session, count)
    asynchronous = time.monotonic() - began - steps * step
    synchronous = _timed(partial(save, at + 1)) + _timed(session.wait)
    return Round(step, copy, asynchronous, synchronous)


def _steps_beside(training: Training, session: Session, least: int) -> int:
    """Make steps until a checkpoint is complete, and at least so many; return how many."""
    complete = threading.Thread(target=session.wait)
    complete.start()
    steps = 0
    while steps < least or complete.is_alive():
        training.step()
        steps += 1
    complete.join()
    return steps


def main() -> None:
    """Measure every size and print one line of JSON; a table goes to standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.bench.checkpoint_stall",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=int, default=5, help="checkpoints of each kind and size (5)")
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES, metavar="MB", help="of the weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    print("     MB    step s    copy s   async s    sync s   copy  async   sync, of 30 s", file=sys.stderr)
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            one = measure(size, arguments.repeats, Path(folder))
        found.append(one)
        seconds = (one.step_seconds, one.copy_seconds, one.asynchronous_seconds, one.synchronous_seconds)
        shares = (one.copy_share, one.asynchronous_share, one.synchronous_share)
        numbers = "".join(f"{each:10.4f}" for each in seconds) + "".join(f"{each:7.1%}" for each in shares)
        print(f"{size:7d}{numbers}", file=sys.stderr)
    results.tell("checkpoint_stall", {"interval_seconds": DEFAULT_SECONDS, "sizes": [asdict(each) for each in found]})


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
