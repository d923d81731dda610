"""When to keep away from bad nodes leaves a gang no node at all."""

import re
from collections.abc import Collection
from datetime import datetime

from modelwright.plan import podstatus
from modelwright.plan.actions import Object
from modelwright.plan.failures import Cause, Loss
from modelwright.plan.podgroup import awaits_peers
from modelwright.plan.times import seconds_between

PATIENCE = 600.0
"""Seconds for which pods wait for another node: one that is repaired, or one that an autoscaler brings."""
_NODES = re.compile(r"^0/(\d+) nodes are available: ")
_SHUT = re.compile(r"(\d+) node\(s\) (?:had untolerated taint|were unschedulable)")
_EXCLUDED = re.compile(r"(\d+) node\(s\) didn't match Pod's node affinity/selector")
# What follows is about those that would have to make room, in the same words.
_PREEMPTION = " preemption: "


def cornered(pods: Collection[Object], excluded: Collection[str], now: datetime) -> tuple[Loss | None, float | None]:
    """Return the loss of a gang that for too long could have run on excluded nodes alone.

    Otherwise, the seconds until that would be so; None where other nodes may take it. A node that is full does not
    count as one of those where pods of this gang fill it: they wait for each other.
    """
    left: list[float] = []
    # Where they are placed together, those that would fit have filled the nodes that the scheduler had for them.
    filled = len({podstatus.node(pod) for pod in pods} - {None}) + sum(awaits_peers(pod) for pod in pods)
    for pod in sorted(pods, key=podstatus.name):
        waiting = podstatus.condition(pod, "PodScheduled")
        since = waiting.get("lastTransitionTime")
        if not excluded or waiting.get("reason") != "Unschedulable" or not since:
            continue
        if not _nowhere_else(str(waiting.get("message") or ""), filled):
            continue
        wait = PATIENCE - seconds_between(str(since), now)
        if wait <= 0:
            return _given_up(pod, excluded), None
        left.append(wait)
    return None, min(left, default=None)


def _nowhere_else(message: str, ours: int) -> bool:
    """Tell whether the scheduler names nobody but nodes that are excluded, closed to the pod, or filled by its peers.

    A selector of the user's own is told in the same words as an exclusion, and where it is met by no other node, that
    is the same to the pod.
    """
    every = _NODES.match(message)
    if every is None:
        return False
    reasons = message[every.end() :].partition(_PREEMPTION)[0]
    excluded = _sum(_EXCLUDED, reasons)
    return excluded > 0 and excluded + _sum(_SHUT, reasons) + ours >= int(every[1])


def _sum(pattern: re.Pattern[str], text: str) -> int:
    return sum(int(count) for count in pattern.findall(text))


def _given_up(pod: Object, excluded: Collection[str]) -> Loss:
    names = ", ".join(excluded)
    minutes = f"{PATIENCE / 60:g} minutes"
    message = f"{podstatus.who(pod)} found no node in {minutes} but those that are excluded: {names} may be used again"
    return Loss(Cause.NODES_EXCLUDED, message)
