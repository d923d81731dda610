"""The gate in front of an alias: does the version that a job registered take it?"""

from dataclasses import dataclass

from pydantic import ValidationError

from modelwright.api.artifacts import Manifest
from modelwright.api.run import Comparison
from modelwright.api.trainingjob import Promotion, PromotionOutcome, PromotionRule, PromotionStatus, RegisteredVersion
from modelwright.plan.actions import MoveAlias
from modelwright.plan.questions import Store


@dataclass(frozen=True)
class Candidate:
    """A new version at the gate."""

    version: RegisteredVersion
    promotion: Promotion
    comparison: Comparison | None
    """None where nobody held the alias when the job compared."""


def judge(candidate: Candidate, holder: int | None) -> PromotionStatus:
    """Return what the gate decides, given the version that holds the alias now.

    A job that was interrupted after it moved the alias finds itself there, and comes to the same decision.
    """
    ours, alias = candidate.version.version, candidate.promotion.alias
    if holder != ours and _superseded(candidate, holder):
        message = f"{alias} moved to version {holder} meanwhile, with which version {ours} was not compared"
        if holder is None:
            message = f"{alias} was removed meanwhile"
        return _status(candidate, PromotionOutcome.SUPERSEDED, message)
    if candidate.promotion.rule is PromotionRule.ALWAYS or candidate.comparison is None:
        return _status(candidate, PromotionOutcome.PROMOTED, f"version {ours} holds {alias}")
    return _compare(candidate, candidate.comparison, held=holder == ours)


def is_registered_by(uid: str, model: str, manifest: object) -> bool:
    """Tell whether a manifest is that of a version of this model which the job with this UID has registered."""
    try:
        found = Manifest.model_validate(manifest)
    except ValidationError:
        return False
    return (found.model, found.job_uid) == (model, uid)


def move(candidate: Candidate, holder: int | None, store: Store, moved_by: str) -> MoveAlias:
    """Return the action that gives the alias to the candidate, if its holder is still the one that was judged."""
    return MoveAlias(
        store=store,
        model=candidate.version.name,
        alias=candidate.promotion.alias,
        version=candidate.version.version,
        expected=holder,
        moved_by=moved_by,
        reason=judge(candidate, holder).message,
    )


def _superseded(candidate: Candidate, holder: int | None) -> bool:
    if candidate.promotion.rule is PromotionRule.ALWAYS:
        # A later version took the alias, perhaps from this one: "always" does not mean to take it back.
        return holder is not None and holder > candidate.version.version
    judged = candidate.comparison.incumbent_version if candidate.comparison else None
    return holder != judged


def _compare(candidate: Candidate, seen: Comparison, *, held: bool) -> PromotionStatus:
    ours, alias, wanted = candidate.version.version, seen.alias, candidate.promotion.min_improvement
    contest = (
        f"{seen.metric} {seen.candidate:.6g} against {seen.incumbent:.6g} of version {seen.incumbent_version} "
        f"on {seen.rows} rows; better by at least {seen.lower_bound:.6g} with confidence {seen.confidence:g}"
    )
    if held or (seen.lower_bound >= wanted and seen.lower_bound > 0):
        return _status(candidate, PromotionOutcome.PROMOTED, f"version {ours} holds {alias}: {contest}")
    message = (
        f"{alias} stays with version {seen.incumbent_version}: {contest}, where {wanted:g} and more than 0 is wanted"
    )
    return _status(candidate, PromotionOutcome.NOT_BETTER, message)


def _status(candidate: Candidate, outcome: PromotionOutcome, message: str) -> PromotionStatus:
    seen = candidate.comparison
    return PromotionStatus(
        alias=candidate.promotion.alias,
        outcome=outcome,
        message=message,
        candidate=seen.candidate if seen else None,
        incumbent=seen.incumbent if seen else None,
        incumbent_version=seen.incumbent_version if seen else None,
        improvement_lower_bound=seen.lower_bound if seen else None,
    )
