"""How far a TrainingJob is, by its status."""

import math

from e2e.support.resources import Object, condition, reason


def under_way(job: Object) -> bool:
    """Tell whether it trains, and has told of a step."""
    return reason(job) == "Training" and job["status"].get("progress", {}).get("step", 0) > 0


def saved(job: Object) -> bool:
    """Tell whether it trains, and has a checkpoint."""
    return reason(job) == "Training" and job["status"].get("checkpoint", {}).get("step", 0) > 0


def has_gone_on(job: Object) -> bool:
    """Tell whether its newest attempt has resumed, and saved again."""
    (*_, attempt) = job["status"]["attempts"]
    return saved(job) and attempt.get("resumedFromStep", math.inf) < job["status"]["checkpoint"]["step"]


def has_started_again(job: Object) -> bool:
    """Tell whether processes of an attempt have started again in their pods."""
    return any(attempt.get("processRestarts") for attempt in job["status"]["attempts"])


def ended(job: Object) -> bool:
    """Tell whether it has succeeded or failed."""
    return condition(job, "Succeeded").get("status") in ("True", "False")
