"""Gangs whose pods the scheduler places together: what is missing for that, and why it does not look at them."""

from dataclasses import dataclass
from datetime import datetime

from modelwright.api.trainingjob import Workers
from modelwright.api.tuningsweep import SweepWorkers
from modelwright.plan import podstatus
from modelwright.plan.actions import Apply, Object
from modelwright.plan.attempts import View, started_at
from modelwright.plan.observed import Observed
from modelwright.plan.podgroup import KIND, has_group, least, pod_group
from modelwright.plan.settings import Settings
from modelwright.plan.times import seconds_between

PATIENCE = 30.0
"""Seconds after its Job has started for which nothing is said of pods that the scheduler has not looked at."""


@dataclass(frozen=True)
class Together:
    """The pods of an attempt that belong to a PodGroup."""

    count: int
    """So many must find nodes at the same time, or none gets one."""
    missing: Apply | None = None
    """What makes the group, where it is not there."""
    held: str | None = None
    """Why the scheduler does not look at the pods."""
    wake_after: float | None = None
    """Seconds until it is time to ask why."""


def together(
    observed: Observed, view: View, workers: Workers | SweepWorkers, settings: Settings, now: datetime
) -> Together | None:
    """Return how the PodGroup of the newest attempt stands; None where its pods are placed one by one.

    That is for its Job to say: one that was made before the operator knew of PodGroups stays as it is.
    """
    job = view.job
    if job is None or not has_group(job):
        return None
    name, version = job["metadata"]["name"], settings.pod_groups
    count = least(workers.model_copy(update={"replicas": view.workers(workers.replicas)}))
    there = any(group["metadata"]["name"] == name for group in observed.child(KIND))
    missing = None if there or version is None else Apply(pod_group(job, count, version))
    left = _left(job, view.attempt_pods, now)
    if left is None or left > 0:
        return Together(count, missing, wake_after=left)
    held = _too_few(name, len(view.attempt_pods), count) if there or missing else _unmade(name)
    return Together(count, missing, held)


def _left(job: Object, pods: tuple[Object, ...], now: datetime) -> float | None:
    """Return the seconds until pods that the scheduler has not looked at are spoken of; None where there are none."""
    waiting = [pod for pod in pods if podstatus.alive(pod) and not podstatus.condition(pod, "PodScheduled")]
    started = started_at(job)
    return PATIENCE - seconds_between(started, now) if waiting and started else None


def _too_few(name: str, pods: int, count: int) -> str | None:
    if pods >= count:
        return None
    return f"{count} pods must start together, and there are {pods}: kubectl describe job {name} tells why"


def _unmade(name: str) -> str:
    return (
        f"its pods wait for the PodGroup {name}, which this operator does not make: it was started with gangScheduling"
        f" Disabled, or the cluster serves none; kubectl delete job {name} has the gang start again without one"
    )
