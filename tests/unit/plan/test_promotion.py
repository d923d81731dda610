"""The gate in front of an alias."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.run import Comparison, ResolvedStorage
from modelwright.api.trainingjob import Promotion, PromotionOutcome, RegisteredVersion
from modelwright.plan.promotion import Candidate, judge, move
from modelwright.plan.questions import Store

PROMOTED, NOT_BETTER, SUPERSEDED = PromotionOutcome.PROMOTED, PromotionOutcome.NOT_BETTER, PromotionOutcome.SUPERSEDED


def compared(lower_bound: float = 0.01, incumbent: int = 3) -> Comparison:
    return Comparison(
        alias="champion",
        metric="roc_auc",
        rows=500,
        candidate=0.92,
        incumbent_version=incumbent,
        incumbent=0.9,
        improvement=0.02,
        lower_bound=lower_bound,
        confidence=0.95,
    )


def candidate(comparison: Comparison | None = None, **promotion: Any) -> Candidate:
    rule = Promotion.model_validate({"metric": "roc_auc", **promotion})
    return Candidate(RegisteredVersion(name="m", version=5, uri="s3://models/m/5"), rule, comparison)


def test_the_first_version_takes_the_alias_without_a_contest() -> None:
    assert judge(candidate(), None).outcome is PROMOTED


def test_a_certain_improvement_is_promoted() -> None:
    found = judge(candidate(compared(0.01)), 3)
    assert found.outcome is PROMOTED
    assert (found.candidate, found.incumbent, found.incumbent_version, found.improvement_lower_bound) == (
        *(0.92, 0.9),
        *(3, 0.01),
    )


@pytest.mark.parametrize(("lower_bound", "wanted"), [(0.0, 0.0), (-0.01, 0.0), (0.009, 0.01)])
def test_a_lucky_draw_is_not_promoted(lower_bound: float, wanted: float) -> None:
    found = judge(candidate(compared(lower_bound), minImprovement=wanted), 3)
    assert found.outcome is NOT_BETTER
    assert found.message.startswith("champion stays with version 3: roc_auc 0.92 against 0.9 of version 3 on 500 rows")


@pytest.mark.parametrize("holder", [None, 4, 6])
def test_a_holder_that_it_was_not_compared_with_is_left_alone(holder: int | None) -> None:
    assert judge(candidate(compared(incumbent=3)), holder).outcome is SUPERSEDED


def test_a_first_version_that_came_second_is_superseded() -> None:
    assert judge(candidate(None), 4).outcome is SUPERSEDED


@pytest.mark.parametrize(("holder", "outcome"), [(None, PROMOTED), (3, PROMOTED), (6, SUPERSEDED)])
def test_always_means_whatever_the_metric_but_not_backwards(holder: int | None, outcome: PromotionOutcome) -> None:
    assert judge(candidate(rule="Always"), holder).outcome is outcome


@given(
    st.one_of(st.none(), st.builds(compared, st.floats(-1, 1), st.integers(1, 4))),
    st.sampled_from(["Always", "IfBetter"]),
    st.one_of(st.none(), st.integers(1, 9)),
)
def test_a_decision_looks_the_same_after_it_was_carried_out(
    comparison: Comparison | None, rule: str, holder: int | None
) -> None:
    mine = candidate(comparison, rule=rule)
    first = judge(mine, holder)
    if first.outcome is PROMOTED:
        assert judge(mine, mine.version.version) == first


def test_the_move_is_bound_to_the_holder_that_was_judged() -> None:
    store = Store(ResolvedStorage(uri="s3://models/team"), "team", None)
    found = move(candidate(compared()), 3, store, "TrainingJob/team/a")
    assert (found.model, found.alias, found.version, found.expected) == ("m", "champion", 5, 3)
    assert found.moved_by == "TrainingJob/team/a"
    assert "roc_auc 0.92 against 0.9" in found.reason
