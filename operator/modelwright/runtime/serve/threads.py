"""How many CPUs this container may use."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def cpu_limit(cgroup: Path = _CGROUP) -> int:
    """Return a whole number of CPUs, at least 1: the cgroup v2 quota if there is one, else what the kernel offers."""
    offered = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup.read_text().split()
    except (OSError, ValueError):
        return offered
    if quota == "max":
        return offered
    return max(1, min(offered, math.ceil(int(quota) / int(period))))
