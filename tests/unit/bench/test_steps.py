"""Lives and steps, read off logs and statuses; and the arithmetic of recovery and goodput."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.bench import steps
from e2e.bench.steps import Course, Line, Point


def printed(*entries: tuple[float, str]) -> list[Line]:
    return [Line(at, "pod-0", text) for at, text in entries]


TWO_LIVES = printed(
    (10.0, "bench began"),
    (15.0, "bench imported"),
    (17.0, "bench read 3000 rows"),
    (17.5, "bench resumed 0"),
    (18.0, "bench step 1"),
    (20.0, "bench step 5"),
    (22.0, "bench step 9"),
    (30.0, "bench began"),
    (37.0, "bench resumed 6"),
    (38.0, "bench step 7"),
    (40.0, "bench step 11"),
)


def test_a_script_that_begins_again_has_a_second_life() -> None:
    course = steps.of_script(TWO_LIVES)
    assert [(point.step, point.life) for point in course.points] == [(1, 1), (5, 1), (9, 1), (7, 2), (11, 2)]
    assert course.resumed == {1: 0, 2: 6}


def test_lines_of_two_pods_are_put_in_the_order_of_their_times() -> None:
    assert steps.of_script(reversed(TWO_LIVES)) == steps.of_script(TWO_LIVES)


def test_what_is_no_mark_is_passed_over() -> None:
    assert steps.of_script(printed((1.0, "W torch.distributed bench"), (2.0, "step 3"))) == Course([], {})


RECIPE = printed(
    (10.0, "2026-11-23 INFO run ns/a, attempt 1"),
    (10.2, "2026-11-23 INFO run ns/a, attempt 1"),  # the other worker
    (14.0, "INFO the first step was made 8.1 s after the process began"),
    (14.0, "INFO the first step was made 8.2 s after the process began"),
    (30.0, "INFO run ns/a, attempt 1"),
    (30.1, "INFO run ns/a, attempt 1"),
    (32.0, "INFO resumed from the checkpoint of step 40"),
    (33.0, "INFO the first step was made 3.1 s after the process began"),
)


def test_a_recipe_lives_again_when_its_processes_begin_in_the_same_pods() -> None:
    course = steps.of_recipe(RECIPE, [(16.0, 10), (26.0, 50), (31.5, 55), (36.0, 56)])
    told = [(point.at, point.step, point.life) for point in course.points]
    assert told == [(14.0, 1, 1), (16.0, 10, 1), (26.0, 50, 1), (31.5, 55, 1), (33.0, 41, 2), (36.0, 56, 2)]
    assert course.resumed == {0: 0, 1: 0, 2: 40}


def test_a_status_that_comes_before_the_first_step_of_a_life_is_of_the_life_before() -> None:
    course = steps.of_recipe(RECIPE, [(31.5, 55)])
    assert steps.recovery(course, 27.0) == 6.0


def test_an_old_status_that_comes_after_the_first_step_is_not_a_step_of_the_new_life() -> None:
    course = steps.of_recipe(RECIPE, [(33.5, 12)])
    assert [point.step for point in course.points] == [1, 41]


def test_a_recipe_that_is_hit_while_it_starts_recovers_when_it_makes_a_step() -> None:
    again = [
        *RECIPE[:5],
        *printed((40.0, "INFO run ns/a, attempt 2"), (45.0, "INFO the first step was made 9 s after")),
    ]
    course = steps.of_recipe(again, [])
    assert steps.recovery(course, 20.0) == 25.0
    assert steps.recovery(course, 31.0) == 14.0


def test_recovery_is_the_time_to_the_first_step_of_a_later_life() -> None:
    course = steps.of_script(TWO_LIVES)
    # The step at 22 is still one of the life that was hit.
    assert steps.recovery(course, 21.0) == 17.0
    assert steps.recovery(course, 21.0, until=38.0) is None
    assert steps.recovery(course, 41.0) is None
    assert steps.recovery(Course(), 1.0) is None


def test_steps_that_are_made_again_are_lost_and_counted_once_each_time() -> None:
    # 9 steps, then 5 from the sixth on: 14 made, 11 reached.
    assert steps.lost(steps.of_script(TWO_LIVES)) == 3
    assert steps.lost(Course()) == 0


def test_a_life_without_a_step_loses_nothing() -> None:
    before = steps.lost(steps.of_script(TWO_LIVES))
    dead = printed((50.0, "bench began"), (55.0, "bench resumed 10"))
    assert steps.lost(steps.of_script([*TWO_LIVES, *dead])) == before


def test_speed_is_that_of_the_steps_in_the_window() -> None:
    course = steps.of_script(TWO_LIVES)
    assert steps.speed(course, 18.0, 25.0) == 2.0
    assert steps.speed(course, 19.0, 100.0) == 2.0, "a later life is not part of it"
    assert steps.speed(course, 21.0, 25.0) == 0.0
    assert steps.speed(course, 50.0, 60.0) == 0.0


def test_between_two_points_steps_are_taken_as_even() -> None:
    course = steps.of_script(TWO_LIVES)
    assert steps.furthest(course, 19.0) == 3.0
    assert steps.furthest(course, 9.0) == 0.0
    assert steps.furthest(course, 35.0) == 9.0, "nothing is made between two lives"
    assert steps.furthest(course, 38.5) == 9.0, "steps that are made again lead no further"
    assert steps.furthest(course, 100.0) == 11.0


def test_useful_are_the_steps_by_which_a_window_got_further() -> None:
    course = steps.of_script(TWO_LIVES)
    # From 5 to 11 in 20 s, at a speed of 2 per second.
    assert steps.useful_share(course, 2.0, 20.0, 40.0) == pytest.approx(6 / 40)
    assert steps.useful_share(course, 0.0, 20.0, 40.0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=6))
def test_what_was_made_is_what_was_reached_and_what_was_lost(lives: list[tuple[int, int]]) -> None:
    points, resumed, at, reached = [], {}, 0.0, 0
    for life, (back, made) in enumerate(lives, start=1):
        resumed[life] = max(0, reached - back)
        for step in range(resumed[life] + 1, resumed[life] + made + 1):
            at += 1
            points.append(Point(at, step, life))
        reached = max(reached, resumed[life] + made)
    course = Course(points, resumed)
    assert steps.furthest(course, at) == reached
    assert steps.lost(course) == sum(made for _, made in lives) - reached
    assert 0 <= steps.useful_share(course, 1.0, 0.0, at + 1) <= 1
