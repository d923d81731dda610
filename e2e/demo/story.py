"""What the demo tells about a resource while it waits for it: the words of its status, and nothing else."""

from collections.abc import Callable
from typing import Any

from e2e.support.narrator import Narrator
from e2e.support.resources import condition, reason

Object = dict[str, Any]


def training(narrator: Narrator) -> Callable[[Object], None]:
    """Return a listener that tells how far a TrainingJob is."""

    def tell(found: Object) -> None:
        status = found.get("status", {})
        progress = status.get("progress", {})
        parts = [f"{found['metadata']['name']}: {reason(found) or 'created'}"]
        if reason(found) == "Training" and progress:
            total = progress.get("totalSteps")
            parts.append(f"step {progress['step']}" + (f" of {total}" if total else ""))
            if "loss" in progress:
                parts.append(f"loss {progress['loss']:.4f}")
        if status.get("restarts"):
            parts.append(f"{status['restarts']} restarts")
        narrator.say(", ".join(parts))

    return tell


def sweep(narrator: Narrator) -> Callable[[Object], None]:
    """Return a listener that tells how a search goes."""

    def tell(found: Object) -> None:
        status = found.get("status", {})
        counts = status.get("trials", {})
        best = status.get("bestTrial", {})
        parts = [f"{found['metadata']['name']}: {reason(found) or 'created'}"]
        if counts:
            parts.append(", ".join(f"{number} {state}" for state, number in counts.items() if number))
        if "value" in best:
            parts.append(f"best {best['value']:.4f}")
        narrator.say("; ".join(part for part in parts if part))

    return tell


def message(narrator: Narrator) -> Callable[[Object], None]:
    """Return a listener that tells the sentence of Ready."""

    def tell(found: Object) -> None:
        ready = condition(found, "Ready")
        narrator.say(f"{found['metadata']['name']}: {ready.get('reason', 'created')}: {ready.get('message', '')}")

    return tell


def metrics(found: Object) -> str:
    """Return a job's results on the held-out rows in one line."""
    values = found.get("status", {}).get("metrics", [])
    return ", ".join(f"{entry['name']} {entry['value']:.4f}" for entry in values)


def version(found: Object) -> str:
    """Return the version that a job registered."""
    model = found["status"]["model"]
    return f"{model['name']} v{model['version']}"
