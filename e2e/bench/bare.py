"""The unit of all times: a script that imports torch and makes a step, on this machine and without anything else."""

import subprocess
import sys
import time

_SCRIPT = """
import torch
model = torch.nn.Linear(8, 2)
optimizer = torch.optim.Adam(model.parameters())
torch.nn.functional.cross_entropy(model(torch.randn(64, 8)), torch.randint(2, (64,))).backward()
optimizer.step()
"""


def seconds() -> float:
    """Return how long it took just now."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True)
    return time.monotonic() - begun
