"""Reaching the processes inside a pod."""

from e2e.scenarios.space import Space

# Process 1 keeps the log, torchrun is its child, and the workers are torchrun's.
_SIGNAL = """
import os, signal, sys
def children(pid):
    return open(f"/proc/{pid}/task/{pid}/children").read().split()
for launcher in children(1):
    for worker in children(launcher):
        os.kill(int(worker), getattr(signal, sys.argv[1]))
"""


def signal_worker(space: Space, pod: str, name: str) -> None:
    """Send a signal, such as SIGSTOP, to the training processes of a pod of a gang under torchrun."""
    space.kubectl.run("exec", pod, f"--namespace={space.namespace}", "--", "python", "-c", _SIGNAL, name)
