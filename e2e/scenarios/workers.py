"""Reaching the processes inside a pod."""

from e2e.scenarios.space import Space

# The processes of a recipe are called after their ranks, whoever started them.
_SIGNAL = """
import os, pathlib, signal, sys
names = {task: task.joinpath("comm").read_text() for task in pathlib.Path("/proc").glob("[0-9]*")}
found = [int(task.name) for task, name in names.items() if name.startswith("rank-")]
for process in found:
    os.kill(process, getattr(signal, sys.argv[1]))
sys.exit(not found)
"""


def signal_worker(space: Space, pod: str, name: str) -> None:
    """Send a signal, such as SIGSTOP, to the training processes of a pod of a recipe's gang."""
    space.kubectl.run("exec", pod, f"--namespace={space.namespace}", "--", "python", "-c", _SIGNAL, name)
