"""Small news that every process must act upon at the same step: somebody is to stop, a checkpoint is due."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from modelwright.runtime.hang import COLLECTIVE_TIMEOUT
from modelwright.runtime.train.world import World, lost_peers


class Control:
    """Sums numbers over all processes beside the training: what is posted at one step is known at the next.

    So no step waits for the network, and no GPU for its host. With one process it is known at once.
    """

    def __init__(self, world: World, patience: timedelta | None = None) -> None:
        """`patience`: how long a process waits for another one; unset: torch's half an hour."""
        self._world = world
        self._pending: tuple[Any, Any] | None = None
        self._group: Any = None
        if world.size > 1:
            import torch.distributed as dist

            # A group of its own: it keeps out of the way of the collectives of the training.
            self._group = dist.new_group(backend="gloo", timeout=patience)

    def exchange(self, values: Sequence[float]) -> list[float]:
        """Post values, and return the sums of those that were posted before; zeros at first. Raises PeerLost."""
        if self._world.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        known = self.drain() or [0.0] * len(values)
        tensor = torch.tensor(values, dtype=torch.float32)
        with lost_peers():
            self._pending = dist.all_reduce(tensor, group=self._group, async_op=True), tensor
        return known

    def meet(self) -> None:
        """Wait for all processes; whether one of them hangs is for the watchdog to say. Raises PeerLost."""
        if self._world.size == 1:
            return
        import torch.distributed as dist

        with lost_peers():
            dist.monitored_barrier(self._group, timeout=COLLECTIVE_TIMEOUT)

    def drain(self) -> list[float] | None:
        """Wait for what is under way; None where nothing is."""
        if self._pending is None:
            return None
        work, tensor = self._pending
        self._pending = None
        with lost_peers():
            work.wait()
        return [float(value) for value in tensor.tolist()]
