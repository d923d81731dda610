"""What became of a training, from what its pods printed and its status told: lives, steps, and what was lost of them.

A life is the time from the start of the training processes to their end, whether in new pods or in the same ones.
Times are seconds of the wall clock, as the node stamps the lines of a log.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_SCRIPT = re.compile(r"\bbench (began|resumed|step)(?: (\d+))?")
_RECIPE = re.compile(r"\b(run \S+/\S+, attempt|resumed from the checkpoint of step|the first step was made)(?: (\d+))?")


@dataclass(frozen=True)
class Line:
    """Something that a pod printed."""

    at: float
    pod: str
    text: str


@dataclass(frozen=True)
class Point:
    """So many steps were done at a time."""

    at: float
    step: int
    life: int
    """From 1."""


@dataclass(frozen=True)
class Course:
    """All that is known of a training so far."""

    points: Sequence[Point] = ()
    """In the order of their times."""
    resumed: Mapping[int, int] = field(default_factory=dict)
    """The step that each life began with."""


def of_script(lines: Iterable[Line]) -> Course:
    """Return the course of `e2e.bench.peer`."""
    life, resumed, points = 0, {}, []
    for line in sorted(lines, key=lambda line: line.at):
        found = _SCRIPT.search(line.text)
        if found is None:
            continue
        what, number = found[1], int(found[2] or 0)
        if what == "began":
            life += 1
        elif what == "resumed":
            resumed[life] = number
        else:
            points.append(Point(line.at, number, life))
    return Course(points, resumed)


def of_recipe(lines: Iterable[Line], told: Iterable[tuple[float, int]]) -> Course:
    """Return the course of a recipe, whose log has the first step of each life; `told` are times and steps of a status.

    A status comes some seconds after its step. What it tells before the first step of a life is of the one before.
    """
    life, resumed, firsts = 0, {0: 0}, []
    begun = False
    for line in sorted(lines, key=lambda line: line.at):
        found = _RECIPE.search(line.text)
        if found is None:
            continue
        what, number = found[1], int(found[2] or 0)
        if what.startswith("run "):
            # Every process says so, and each life has one of rank 0.
            life, begun = (life + 1, False) if begun or life == 0 else (life, begun)
            resumed[life] = 0
        elif what.startswith("resumed"):
            resumed[life] = number
        elif not begun:
            begun = True
            firsts.append(Point(line.at, resumed[life] + 1, life))
    points = list(firsts)
    for at, step in told:
        present = [first for first in firsts if first.at <= at]
        if present and step >= present[-1].step:
            points.append(Point(at, step, present[-1].life))
    return Course(sorted(points, key=lambda point: point.at), resumed)


def first_step(course: Course) -> float | None:
    """Return when the first step of all was made."""
    return course.points[0].at if course.points else None


def speed(course: Course, begin: float, end: float) -> float:
    """Return steps per second between the first and the last point of one life in a window; 0 where there are none."""
    within = [point for point in course.points if begin <= point.at <= end]
    within = [point for point in within if point.life == within[0].life]
    if len(within) < 2 or within[-1].at == within[0].at:
        return 0.0
    return (within[-1].step - within[0].step) / (within[-1].at - within[0].at)


def furthest(course: Course, at: float) -> float:
    """Return the furthest step that was made by a time; between two points of a life steps are taken as even."""
    reached = max((float(point.step) for point in course.points if point.at <= at), default=0.0)
    for before, after in pairwise(course.points):
        if before.at <= at < after.at and before.life == after.life:
            made = (after.step - before.step) * (at - before.at) / (after.at - before.at)
            reached = max(reached, before.step + made)
    return reached


def recovery(course: Course, fault: float, until: float = float("inf")) -> float | None:
    """Return the seconds from a fault to the first step of a later life; None where there was none before `until`."""
    life = max((point.life for point in course.points if point.at <= fault), default=0)
    after = (point.at for point in course.points if point.at > fault and point.life > life)
    found = next(after, None)
    return None if found is None or found >= until else found - fault


def lost(course: Course) -> int:
    """Return how many of the steps that were made had been made before."""
    last: dict[int, int] = {}
    for point in course.points:
        last[point.life] = max(last.get(point.life, 0), point.step)
    made = sum(max(0, step - course.resumed.get(life, 0)) for life, step in last.items())
    begun = min((course.resumed.get(life, 0) for life in last), default=0)
    return max(0, made - (max(last.values(), default=0) - begun))


def useful_share(course: Course, pace: float, begin: float, end: float) -> float:
    """Return the steps by which a window got further, as a share of those that were possible at `pace` per second."""
    possible = pace * (end - begin)
    return (furthest(course, end) - furthest(course, begin)) / possible if possible > 0 else 0.0
