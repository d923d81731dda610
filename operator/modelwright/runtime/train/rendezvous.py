"""How often an agent looks whether the others have come, or want to start again.

torch looks once a second, for the sake of the store when there are thousands: most of the time that two agents take to
meet. Few agents may look more often, and processes are back sooner by more than a second when one was killed.
"""

from functools import partial

from torch.distributed.elastic.rendezvous import dynamic_rendezvous

_SHORTEST, _LONGEST = 0.1, 1.0
"""Seconds; the longer is torch's own."""
_LOOKS = 50
"""That the store answers in a second."""


def seconds_between_looks(agents: int) -> float:
    """Return how long an agent waits between two looks in a gang of so many."""
    return min(_LONGEST, max(_SHORTEST, agents / _LOOKS))


def look_often(agents: int) -> None:
    """Have the agent of this process do so; torch has no setting for it."""
    pause, wait = seconds_between_looks(agents), dynamic_rendezvous._delay  # noqa: SLF001

    def delay(seconds: float | tuple[float, float]) -> None:
        wait(pause if seconds == _LONGEST else seconds)

    holder = dynamic_rendezvous._BackendRendezvousStateHolder  # noqa: SLF001
    dynamic_rendezvous._delay = delay  # noqa: SLF001
    dynamic_rendezvous._BackendRendezvousStateHolder = partial(holder, cache_duration=pause)  # noqa: SLF001
