"""`python -m modelwright.runtime.serve`."""

import sys

from modelwright.runtime.serve.main import main

if __name__ == "__main__":
    sys.exit(main())
