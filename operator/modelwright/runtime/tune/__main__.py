"""`python -m modelwright.runtime.tune`."""

import sys

from modelwright.runtime.tune.main import main

if __name__ == "__main__":
    sys.exit(main())
