"""`python -m modelwright.runtime.logs -- program argument ...`."""

import os
import sys

from modelwright.runtime.logs.main import main

if __name__ == "__main__":
    # At once: nothing here is to be waited for, a thread that still speaks to S3 least of all.
    os._exit(main(sys.argv[1:]))
