"""ModelDeployment, whatever happens in whatever order: once a version serves, the Service names one that answers."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan.deployment_world import DEADLINE, Crash, World, failure

CORRUPT = failure("ModelLoadFailed", "it cannot be loaded", retryable=False)
GOOD, BROKEN = (1, 2, 3, 4), {5: CORRUPT, 6: ""}
VERSIONS = st.sampled_from([*GOOD, *BROKEN])

STEPS = st.one_of(
    st.just(("reconcile", None)),
    st.just(("stale", None)),
    st.tuples(st.just("crash"), st.integers(0, 3)),
    st.just(("tick", None)),
    st.just(("tick", None)),
    st.tuples(st.just("move"), VERSIONS),
    st.tuples(st.just("scale"), st.integers(1, 3)),
    st.tuples(st.just("memory"), st.integers(1, 2)),
    st.tuples(st.just("wait"), st.sampled_from([1, 5, 11, DEADLINE + 1])),
)


def take(world: World, step: str, argument: Any) -> None:
    match step:
        case "reconcile":
            world.reconcile()
        case "stale":
            world.reconcile(stale=True)
        case "crash":
            with pytest.raises(Crash):
                world.reconcile(crash_after=argument)
        case "tick":
            world.tick()
        case "move":
            world.move_alias(argument)
        case "scale":
            world.change(replicas=argument)
        case "memory":
            world.change(server={"resources": {"limits": {"memory": f"{argument}Gi"}}})
        case "wait":
            world.wait(argument)


@given(st.lists(STEPS, min_size=12, max_size=40), VERSIONS, st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_service_always_names_a_version_that_answers(steps: list[tuple[str, Any]], first: int, old: bool):
    world = World()
    world.broken = dict(BROKEN)
    if old:
        world.settle(4)
    world.move_alias(first)
    for step, argument in steps:
        take(world, step, argument)
        # An operator that looks at an old view cannot know what has got ready since; what it has told, it must keep.
        if world.status.get("serving"):
            assert world.ready(world.selected) > 0, (step, world.selected)


@given(st.lists(STEPS, min_size=5, max_size=25), VERSIONS)
@settings(max_examples=30, deadline=None)
def test_left_alone_it_ends_where_the_alias_points_or_says_why_not_and_then_writes_nothing(
    steps: list[tuple[str, Any]], last: int
):
    world = World()
    world.broken = dict(BROKEN)
    for step, argument in steps:
        take(world, step, argument)
    world.move_alias(last)
    world.settle(20, seconds=10)
    settled = world.status
    assert world.reconcile().actions == ()
    assert world.status == settled
    assert world.status["targetVersion"] == last
    if last in GOOD:
        assert world.reason == "Serving"
        assert (world.selected, list(world.deployments)) == (last, [f"churn-v{last}"])
    else:
        assert world.reason == "RolloutFailed"
        assert world.status["failed"]["version"] == last
        assert f"churn-v{last}" not in world.deployments
