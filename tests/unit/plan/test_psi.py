import random
from itertools import accumulate
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import chdtrc, chdtri

from modelwright.plan import chi_square, psi

COUNTS = st.lists(st.integers(0, 5000), min_size=2, max_size=30)
PAIRS = st.integers(2, 30).flatmap(
    lambda bins: st.tuples(
        st.lists(st.integers(0, 5000), min_size=bins, max_size=bins),
        st.lists(st.integers(0, 5000), min_size=bins, max_size=bins),
    )
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 10, 31, 64, 200, 2000])
@pytest.mark.parametrize("alpha", [0.4, 0.05, 0.01, 1e-3, 5e-6, 1e-12])
def test_the_critical_value_is_that_of_scipy(degrees: int, alpha: float) -> None:
    assert chi_square.critical(degrees, alpha) == pytest.approx(chdtri(degrees, alpha), rel=1e-9)


@given(degrees=st.integers(1, 500), x=st.floats(0.001, 2000))
def test_the_tail_is_that_of_scipy(degrees: int, x: float) -> None:
    assert chi_square.tail(x, degrees) == pytest.approx(chdtrc(degrees, x), rel=1e-8, abs=1e-13)


def test_a_variable_that_is_never_negative_exceeds_zero_for_certain() -> None:
    assert chi_square.tail(0.0, 3) == 1.0


def normal_bins(shift: float, rows: int) -> list[int]:
    """Rows of a unit normal, moved by `shift`, in the deciles of one that is not."""
    edges = [NormalDist().inv_cdf(tenth / 10) for tenth in range(1, 10)]
    shares = [NormalDist(shift).cdf(edge) for edge in edges]
    return [round(rows * (high - low)) for low, high in zip([0.0, *shares], [*shares, 1.0], strict=True)]


@pytest.mark.parametrize(("shift", "expected"), [(0.32, 0.1), (0.455, 0.2), (0.5, 0.24), (1.0, 0.93)])
def test_a_shift_of_a_normal_variable_has_the_index_known_from_theory(shift: float, expected: float) -> None:
    found = psi.compare(normal_bins(0, 1_000_000), normal_bins(shift, 1_000_000), 0.01)

    assert found is not None
    assert found.psi == pytest.approx(expected, rel=0.04)
    assert found.beyond(0.05)


def draw(shares: list[float], rows: int, chance: random.Random) -> list[int]:
    counts = [0] * len(shares)
    for bin_ in chance.choices(range(len(shares)), cum_weights=list(accumulate(shares)), k=rows):
        counts[bin_] += 1
    return counts


UNIFORM = [1 / 10] * 10
DECILES_AND_FEW_MISSING = [0.0995] * 10 + [0.005]
LONG_TAIL = [1 / rank for rank in range(1, 31)]


@pytest.mark.parametrize("shares", [UNIFORM, DECILES_AND_FEW_MISSING, LONG_TAIL], ids=["uniform", "missing", "tail"])
@pytest.mark.parametrize("rows", [60, 500])
def test_without_drift_false_alarms_are_no_more_frequent_than_stated(shares: list[float], rows: int) -> None:
    chance = random.Random(rows)  # noqa: S311 (a seeded simulation)
    trials, alpha = 200, 0.05
    alarms = 0
    for _ in range(trials):
        found = psi.compare(draw(shares, 2000, chance), draw(shares, rows, chance), alpha)
        alarms += found is not None and found.beyond(0.0)

    # Three standard errors above the promise; the fixed bound of 0.1 alarms in most of the trials with 60 rows.
    assert alarms / trials < alpha + 3 * (alpha * (1 - alpha) / trials) ** 0.5


@pytest.mark.parametrize("rows", [100, 500, 5000])
def test_a_real_shift_is_found(rows: int) -> None:
    found = psi.compare(normal_bins(0, 10_000), normal_bins(1.0, rows), 0.01 / 30)

    assert found is not None
    assert found.beyond(0.1)


def test_values_that_training_never_saw_are_drift_even_though_their_bin_was_empty() -> None:
    found = psi.compare([5000, 5000, 0], [450, 450, 100], 0.001)

    assert found is not None
    assert found.beyond(0.1)


def test_a_certain_but_tiny_shift_does_not_count() -> None:
    found = psi.compare([500_000, 500_000], [505_000, 495_000], 0.001)

    assert found is not None
    assert found.psi > found.critical
    assert not found.beyond(0.1)


@given(counts=COUNTS.filter(any), times=st.integers(1, 50))
def test_equal_distributions_have_no_distance_whatever_the_sample_sizes(counts: list[int], times: int) -> None:
    found = psi.compare([count * times for count in counts], counts, 0.01)

    assert found is not None
    assert found.psi == pytest.approx(0, abs=1e-12)


@given(pair=PAIRS)
@settings(max_examples=200)
def test_the_index_is_finite_and_never_negative(pair: tuple[list[int], list[int]]) -> None:
    reference, live = pair
    there, back = psi.compare(reference, live, 0.01), psi.compare(live, live, 0.01)

    assert (there is None) == (not any(reference) or not any(live))
    if there is not None:
        assert 0 <= there.psi < 100
        assert 0 <= there.critical < 1000
    if back is not None:
        assert back.psi == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("reference", "live"), [([0, 0], [1, 2]), ([1, 2], [0, 0]), ([1, 2, 3], [1, 2]), ([], [])])
def test_what_cannot_be_compared_gives_no_shift(reference: list[int], live: list[int]) -> None:
    assert psi.compare(reference, live, 0.01) is None


def test_a_column_with_one_value_only_cannot_drift() -> None:
    found = psi.compare([100, 0], [900, 0], 0.01)

    assert found == psi.Shift(0.0, 0.0)
    assert not found.beyond(0.0)


def test_a_larger_sample_and_fewer_columns_lower_the_critical_value() -> None:
    small = psi.compare([1000] * 10, [10] * 10, 0.01)
    large = psi.compare([1000] * 10, [100] * 10, 0.01)
    many = psi.compare([1000] * 10, [100] * 10, 0.01 / 50)

    assert small is not None
    assert large is not None
    assert many is not None
    assert large.critical < many.critical < small.critical
    assert large.critical == pytest.approx(chdtri(9, 0.01) * (1 / 10_000 + 1 / 1000))


def test_counts_of_replicas_add_up_bin_by_bin() -> None:
    assert psi.add([(1, 0, 2), (0, 5, 1)], 3) == (1, 5, 3)
    assert psi.add([], 2) == (0, 0)
