"""The files of a version: what a server loads, what a gate reads, what a person asks about later."""

from dataclasses import dataclass
from pathlib import Path

import onnx

import modelwright
from modelwright.api.artifacts import SIGNATURE_FILE, DatasetLineage, Lineage, Metrics, Reference, Signature
from modelwright.api.goodput import Spent
from modelwright.api.recipe import TabularRecipe
from modelwright.api.run import Comparison, Run
from modelwright.api.schema import ApiModel
from modelwright.api.trainingjob import Dataset
from modelwright.runtime.train import card
from modelwright.runtime.train.problem import Split
from modelwright.runtime.train.recipes import parameters
from modelwright.runtime.train.trainer import Files

COMPARISON_FILE = "comparison.json"
METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Package:
    """Everything that is known about a new version."""

    graph: onnx.ModelProto
    weights: Files
    signature: Signature
    metrics: Metrics
    reference: Reference
    lineage: Lineage
    comparison: Comparison | None
    warnings: tuple[str, ...]


def write(package: Package, directory: Path, *, model: str, version: int, created: str) -> None:
    """Write the files of a version into a directory; the manifest is the registry's."""
    (directory / "model.onnx").write_bytes(package.graph.SerializeToString())
    for name, data in package.weights.items():
        (directory / name).write_bytes(data)
    documents: dict[str, ApiModel | None] = {
        SIGNATURE_FILE: package.signature,
        METRICS_FILE: package.metrics,
        "reference.json": package.reference,
        "lineage.json": package.lineage,
        COMPARISON_FILE: package.comparison,
    }
    for name, document in documents.items():
        if document is not None:
            (directory / name).write_text(document.model_dump_json(by_alias=True, exclude_none=True, indent=1))
    facts = card.Facts(
        model=model,
        version=version,
        created=created,
        signature=package.signature,
        metrics=package.metrics,
        reference=package.reference,
        lineage=package.lineage,
        comparison=package.comparison,
        warnings=package.warnings,
    )
    (directory / "card.html").write_text(card.render(facts))


def lineage(
    run: Run, split: Split, recipe: TabularRecipe, dataset: Dataset, parent_version: int | None, spent: Spent
) -> Lineage:
    """Return why this version exists, what it was made from, and what that took."""
    return Lineage(
        job=f"{run.namespace}/{run.name}",
        job_uid=run.uid,
        attempt=run.attempt,
        trigger=run.trigger,
        image=run.image,
        modelwright=modelwright.__version__,
        dataset=DatasetLineage(
            uri=dataset.uri,
            digest=split.digest,
            rows=len(split.train) + len(split.held_out),
            validation_rows=len(split.held_out),
            split_seed=dataset.split_seed,
            validation_fraction=dataset.validation_fraction,
        ),
        algorithm=recipe.algorithm,
        parameters=parameters(recipe),
        parent_version=parent_version,
        spent=spent,
    )
