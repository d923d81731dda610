"""Gangs that share a quota of the operator: whole or not at all, the more important first."""

import pytest

from e2e.scenarios import specs
from e2e.scenarios.space import Space
from e2e.scenarios.waiting import eventually
from e2e.support.resources import Object, condition, reason

_JOBS = "trainingjobs"
_FITS_ONCE = {"resources": {"requests": {"cpu": "60m"}}}
_TOO_MUCH = {"resources": {"requests": {"cpu": "150m"}}}


@pytest.fixture(scope="module", autouse=True)
def waiting(space: Space) -> None:
    """One gang that runs, two that wait for its room, and one that is larger than the quota."""
    space.apply(specs.changed(specs.command("first", "import time; time.sleep(600)", replicas=2), workers=_FITS_ONCE))
    space.journal.wait(_JOBS, "first", lambda job: reason(job) == "Training", timeout=60)
    low = specs.command("low", "pass", replicas=2)
    high = specs.changed(specs.command("high", "pass", replicas=2), priority=10)
    space.apply(specs.changed(low, workers=_FITS_ONCE), specs.changed(high, workers=_FITS_ONCE))
    space.apply(specs.changed(specs.command("huge", "pass", replicas=2), workers=_TOO_MUCH))


def _pods(space: Space, name: str) -> list[Object]:
    return space.pods(space.job(name))


def _begun(space: Space, name: str) -> str:
    return str(space.job(name)["status"]["startTime"])


def test_who_waits_has_no_pods_and_says_what_for(space: Space) -> None:
    for name in ("low", "high"):
        job = space.journal.wait(_JOBS, name, lambda job: reason(job) == "Queued", timeout=30)
        message = "waiting for room: it needs 0.12 of 0.2 cpu of the quota e2e"
        assert condition(job, "Ready")["message"] == message
        assert _pods(space, name) == []


def test_what_can_never_fit_is_told_so(space: Space) -> None:
    job = space.journal.wait(
        _JOBS, "huge", lambda job: reason(job) == "QuotaTooSmall", timeout=30, stop=lambda _: False
    )
    said = "it can never start: it needs 0.3 cpu, and the quota e2e has 0.2 in all"
    assert condition(job, "Ready")["message"] == said


def test_suspending_makes_room_and_the_more_important_goes_first(space: Space) -> None:
    space.patch("trainingjob", "first", {"spec": {"suspend": True}})
    for name in ("high", "low"):
        space.journal.wait(_JOBS, name, lambda job: reason(job) == "Succeeded", timeout=90)
    assert _begun(space, "high") <= _begun(space, "low")


def test_who_was_suspended_waits_for_nobody_when_there_is_room(space: Space) -> None:
    space.patch("trainingjob", "first", {"spec": {"suspend": False}})
    eventually(lambda: len(_pods(space, "first")) == 2, "both pods of the first gang run again")
    space.delete("trainingjob", "first")
