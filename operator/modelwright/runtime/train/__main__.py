"""`python -m modelwright.runtime.train`: run what MODELWRIGHT_RUN says and exit."""

import os

from modelwright.api.run import RUN_VARIABLE, Run
from modelwright.api.trainingjob import Framework
from modelwright.runtime.imports import importing

if __name__ == "__main__":
    run = Run.model_validate_json(os.environ[RUN_VARIABLE])
    with importing():
        # One of them only: a driver of Ray's trains nothing itself, and Ray is not in every image.
        if run.training.framework is Framework.RAY:
            from modelwright.runtime.train.ray_main import main
        else:
            from modelwright.runtime.train.main import main
    main()
