"""`python -m modelwright.kube`: the operator."""

import asyncio
import gc
import os
import sys

from modelwright.kube import app, logs, settings
from modelwright.kube.client import DEEPEST
from modelwright.kube.planners import PLANNERS


def main() -> int:
    """Run until told to stop; return the exit code: 0 stopped, 1 the Lease was lost, 2 wrongly configured."""
    try:
        process = settings.read(os.environ)
    except settings.SettingsError as error:
        sys.stderr.write(f"modelwright: {error}\n")
        return 2
    logs.configure(process.log_format, process.log_level)
    # kopf reads with Python's own decoder, and one object that it cannot read ends it.
    sys.setrecursionlimit(DEEPEST)
    # What is imported stays: the collector need not look at it again and again.
    gc.freeze()
    return asyncio.run(app.run(process, PLANNERS))


if __name__ == "__main__":
    sys.exit(main())
