"""How many CPUs there are to use: what the container may, not what the machine has."""

import os
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def cpu_limit(limit_file: Path = _CGROUP_LIMIT) -> int:
    """Return the number of CPUs of this container, rounded up, at least 1 (cgroup v2: `quota period`, or `max`)."""
    usable = len(os.sched_getaffinity(0))
    try:
        quota, period = limit_file.read_text().split()
        limit = usable if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return usable
    return max(1, min(usable, limit))


def available_cpus(limit_file: Path = _CGROUP_LIMIT) -> int:
    """Return how many threads are worth starting.

    OMP_NUM_THREADS lowers the limit: so Ray tells a process its share where several train side by side.
    """
    limit = cpu_limit(limit_file)
    share = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(limit, int(share))) if share.isdecimal() else limit
