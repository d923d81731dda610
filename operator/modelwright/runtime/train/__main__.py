"""`python -m modelwright.runtime.train`: run what MODELWRIGHT_RUN says and exit."""

import json
import os

from modelwright.api.run import RUN_VARIABLE
from modelwright.api.trainingjob import Framework
from modelwright.runtime.imports import importing

if __name__ == "__main__":
    # Whoever runs it checks it, and leaves a failure where it is wrong.
    framework = json.loads(os.environ[RUN_VARIABLE])["training"].get("framework")
    with importing():
        # One of them only: a driver of Ray's trains nothing itself, and Ray is not in every image.
        if framework == Framework.RAY:
            from modelwright.runtime.train.ray_main import main
        else:
            from modelwright.runtime.train.main import main
    main()
