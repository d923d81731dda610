"""The version that holds the alias: what a new one has to beat."""

import logging
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from modelwright.api.artifacts import SIGNATURE_FILE, Lineage, Signature
from modelwright.api.run import Comparison, Run
from modelwright.api.trainingjob import Dataset, Promotion, PromotionRule
from modelwright.registry.aliases import read_alias
from modelwright.registry.errors import CorruptVersion, IncompleteVersion, UnreadableDocument
from modelwright.registry.store import ObjectStore
from modelwright.registry.versions import fetch_version
from modelwright.runtime.failure import DataError
from modelwright.runtime.train import metrics
from modelwright.runtime.train.answers import GraphModel, missing_columns
from modelwright.runtime.train.comparison import improvement_bound
from modelwright.runtime.train.evaluation import align, outcome_of
from modelwright.runtime.train.metrics import Outcome
from modelwright.runtime.train.problem import Split

logger = logging.getLogger(__name__)


class _UnreadableError(Exception):
    """The files of a version are what its manifest says, and still no model."""


@dataclass(frozen=True)
class Incumbent:
    """A registered version, ready to answer."""

    version: int
    graph: GraphModel
    lineage: Lineage


def find(store: ObjectStore, run: Run, scratch: Path) -> Incumbent | None:
    """Return the holder of the alias that the new version is after; None without promotion or without a holder.

    Raises `DataError` IncumbentNotComparable when its files are not whole, `StoreError` when they cannot be had.
    """
    model = run.training.model
    if model is None or model.promotion is None:
        return None
    alias = model.promotion.alias
    held = read_alias(store, model.name, alias)
    if held is None:
        return None
    version = held[0].version
    folder = scratch / f"version-{version}"
    try:
        fetch_version(store, model.name, version, folder)
        return _load(version, folder)
    except (CorruptVersion, IncompleteVersion, UnreadableDocument, _UnreadableError) as error:
        raise DataError(
            "IncumbentNotComparable",
            f"Version {version}, which holds alias {alias}, is damaged: {error}: let the alias point at a whole "
            "version, or set promotion.rule to Always",
        ) from error


def find_or_excuse(store: ObjectStore, run: Run, scratch: Path) -> tuple[Incumbent | None, tuple[str, ...]]:
    """Return the holder, as `find` does, and warnings. Under the rule Always a damaged holder is but a warning."""
    try:
        return find(store, run, scratch), ()
    except DataError as error:
        promotion = run.training.model.promotion if run.training.model else None
        if promotion is None or promotion.rule is not PromotionRule.ALWAYS:
            raise
        logger.warning("%s", error.message)
        return None, (f"There is no comparison. {error.message}",)


def require_comparable(store: ObjectStore, run: Run, split: Split, scratch: Path) -> None:
    """Raise `DataError` IncumbentNotComparable when a comparison is wanted that the holder or these data do not allow.

    Raises `StoreError` when the holder cannot be had.
    """
    promotion = run.training.model.promotion if run.training.model else None
    if promotion is None or promotion.rule is not PromotionRule.IF_BETTER:
        return
    incumbent = find(store, run, scratch)
    if incumbent is not None and (obstacle := _obstacle(incumbent, split)):
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


def _load(version: int, folder: Path) -> Incumbent:
    try:
        signature = Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())
        lineage = Lineage.model_validate_json((folder / "lineage.json").read_bytes())
        return Incumbent(version, GraphModel(folder / "model.onnx", signature), lineage)
    except FileNotFoundError as error:
        raise _UnreadableError(f"it has no {Path(error.filename).name}") from error
    except ValidationError as error:
        raise _UnreadableError(f"its {error.title} is not one") from error
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise _UnreadableError(f"its graph cannot be loaded ({type(error).__name__})") from error


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
