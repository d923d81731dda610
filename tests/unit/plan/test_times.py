"""Of several moments to look again, the earliest counts."""

import pytest

from modelwright.plan.times import soonest


@pytest.mark.parametrize(
    ("waits", "earliest"), [((), None), ((None, None), None), ((7.0, None), 7.0), ((None, 5.0, 3.0), 3.0), ((-1.0,), 0)]
)
def test_the_earliest_wake_up_counts(waits: tuple[float | None, ...], earliest: float | None) -> None:
    assert soonest(*waits) == earliest
