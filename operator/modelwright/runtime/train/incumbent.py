"""The version that holds the alias: what a new one has to beat."""

from dataclasses import dataclass
from pathlib import Path

from modelwright.api.artifacts import Lineage, Signature
from modelwright.api.run import Comparison, Run
from modelwright.api.trainingjob import Dataset, Promotion, PromotionRule
from modelwright.registry.aliases import read_alias
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import fetch_version
from modelwright.runtime.failure import DataError
from modelwright.runtime.train import metrics
from modelwright.runtime.train.answers import GraphModel, missing_columns
from modelwright.runtime.train.comparison import improvement_bound
from modelwright.runtime.train.evaluation import align, outcome_of
from modelwright.runtime.train.metrics import Outcome
from modelwright.runtime.train.problem import Split


@dataclass(frozen=True)
class Incumbent:
    """A registered version, ready to answer."""

    version: int
    graph: GraphModel
    lineage: Lineage


def find(store: ObjectStore, run: Run, scratch: Path) -> Incumbent | None:
    """Return the holder of the alias that the new version is after; None without promotion or without a holder."""
    model = run.training.model
    held = read_alias(store, model.name, model.promotion.alias) if model and model.promotion else None
    if model is None or held is None:
        return None
    version = held[0].version
    folder = scratch / f"version-{version}"
    fetch_version(store, model.name, version, folder)
    signature = Signature.model_validate_json((folder / "signature.json").read_bytes())
    lineage = Lineage.model_validate_json((folder / "lineage.json").read_bytes())
    return Incumbent(version, GraphModel(folder / "model.onnx", signature), lineage)


def require_comparable(incumbent: Incumbent | None, split: Split, promotion: Promotion | None) -> None:
    """Raise `DataError` IncumbentNotComparable when a comparison is wanted that these data do not allow."""
    if incumbent is None or promotion is None or promotion.rule is not PromotionRule.IF_BETTER:
        return
    if obstacle := _obstacle(incumbent, split):
        raise DataError(
            "IncumbentNotComparable",
            f"Version {incumbent.version}, which holds alias {promotion.alias}, {obstacle}: give data that both can be "
            "evaluated on, or set promotion.rule to Always",
        )


def compare(incumbent: Incumbent, outcome: Outcome, split: Split, promotion: Promotion, seed: int) -> Comparison | None:
    """Return both models' results on the same held-out rows; None when no metric was named or it cannot be done."""
    metric = promotion.metric
    if metric is None or _obstacle(incumbent, split):
        return None
    theirs = _outcome(incumbent, split)
    candidate, holder = metrics.measure(metric, outcome), metrics.measure(metric, theirs)
    bound = improvement_bound(metric, outcome, theirs, confidence=promotion.confidence, seed=seed)
    return Comparison(
        alias=promotion.alias,
        metric=metric,
        rows=len(outcome),
        candidate=candidate,
        incumbent_version=incumbent.version,
        incumbent=holder,
        improvement=metrics.gain(metric, candidate, holder),
        lower_bound=bound,
        confidence=promotion.confidence,
    )


def split_warnings(incumbent: Incumbent, dataset: Dataset) -> tuple[str, ...]:
    """Return a sentence when the incumbent may have learnt from rows that are held out now."""
    theirs = incumbent.lineage.dataset
    if theirs.split_seed == dataset.split_seed and theirs.validation_fraction >= dataset.validation_fraction:
        return ()
    sentence = (
        f"Version {incumbent.version} was trained with another splitSeed or a smaller validationFraction: it may know "
        "some of the held-out rows, which makes it look better than it is"
    )
    return (sentence,)


def _obstacle(incumbent: Incumbent, split: Split) -> str:
    signature = incumbent.graph.signature
    if signature.task is not split.task:
        return f"does {signature.task}, not {split.task}"
    if signature.target != split.target:
        return f"predicts {signature.target}, not {split.target}"
    missing = missing_columns(signature, split.kinds)
    return f"reads columns that the data does not have: {', '.join(missing)}" if missing else ""


def _outcome(incumbent: Incumbent, split: Split) -> Outcome:
    _, scores = incumbent.graph.answer(split.aside)
    # What it gives to classes that no longer occur is lost to it; a class that it has never seen gets 0.
    aligned = align(scores, incumbent.graph.signature.classes, split.classes) if split.classes else scores
    return outcome_of(aligned, split.held_out, split.classes)
