"""From the environment of pod 0 to a finished search."""

import logging
import os

from modelwright.api.run import RUN_VARIABLE, Run
from modelwright.runtime.failure import RunError, guarded

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Our own documents are the record of a search; Ray's files and tables would only slow the trials down.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    # A trial that broke has an explanation to report instead of a metric.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


def main() -> int:
    """Search until the budget is spent. Returns the exit status: 0, or another with a `Failure` left behind."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty, level in {"botocore": logging.WARNING, "ray.tune.analysis": logging.ERROR}.items():
        logging.getLogger(chatty).setLevel(level)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    return guarded(_search)


def _search() -> None:
    # Ray reads its settings when it is imported.
    from modelwright.runtime.tune.driver import search

    try:
        run = Run.model_validate_json(os.environ[RUN_VARIABLE])
    except (KeyError, ValueError) as error:
        raise RunError("RunInvalid", f"{RUN_VARIABLE} is not a Run", retryable=False) from error
    search(run)
