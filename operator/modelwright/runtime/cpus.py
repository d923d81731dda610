"""How many CPUs there are to use: what the container may, not what the machine has."""

import os
from contextlib import suppress
from pathlib import Path

from modelwright.api.variables import CPUS_VARIABLE

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def cpu_limit(limit_file: Path = _CGROUP_LIMIT) -> int:
    """Return the number of CPUs of this container, rounded up, at least 1.

    The least of what the kernel lets it run on, of its limit as the kernel has it (cgroup v2: `quota period`, or
    `max`), and of its limit as Kubernetes told it: older kernels keep it elsewhere, and a kubelet need not enforce it.
    """
    known = [len(os.sched_getaffinity(0))]
    with suppress(OSError, ValueError):
        quota, period = limit_file.read_text().split()
        known.append(-(-int(quota) // int(period)))  # `max` is no number
    told = os.environ.get(CPUS_VARIABLE, "")
    if told.isdecimal():
        known.append(int(told))
    return max(1, min(known))


def available_cpus(limit_file: Path = _CGROUP_LIMIT) -> int:
    """Return how many threads are worth starting.

    OMP_NUM_THREADS lowers the limit: so Ray tells a process its share where several train side by side.
    """
    limit = cpu_limit(limit_file)
    share = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(limit, int(share))) if share.isdecimal() else limit
