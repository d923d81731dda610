"""The model card: one HTML page for people, readable by itself. All that it says is also in the JSON files."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from modelwright.api.artifacts import ColumnKind, Lineage, Metrics, Reference, ReferenceColumn, Signature
from modelwright.api.goodput import Spent
from modelwright.api.recipe import Task
from modelwright.api.run import Comparison

_METRIC_NAMES = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "log_loss": "Log-loss",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "r2": "R²",
}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --warn: #b7791f; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; } .sub { opacity: .7; margin: 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; vertical-align: middle; }
tr { border-bottom: 1px solid var(--line); } thead th { font-weight: 600; opacity: .7; } tbody th { font-weight: 400; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; }
.tile { background: var(--soft); border-radius: .5rem; padding: .6rem 1rem; }
.tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.warning { border-left: 4px solid var(--warn); background: var(--soft); padding: .4rem .8rem; margin: .4rem 0; }
svg { display: block; }
code { overflow-wrap: anywhere; }
"""
_HEIGHT = 24
_WIDTH = 120
_WIDEST_BAR = 20
_TWO_ENDS = 2
_TWO_CLASSES = 2


@dataclass(frozen=True)
class Facts:
    """What a card tells."""

    model: str
    version: int
    created: str
    signature: Signature
    metrics: Metrics
    reference: Reference
    lineage: Lineage
    comparison: Comparison | None
    warnings: tuple[str, ...]


def render(facts: Facts) -> str:
    """Return the page. Everything that comes from users or their data is escaped."""
    title = f"{facts.model} version {facts.version}"
    sections = "".join((_results(facts), _warnings(facts.warnings), _columns(facts), _lineage(facts)))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>{_head(facts, title)}{sections}</body></html>\n"
    )


def _head(facts: Facts, title: str) -> str:
    signature = facts.signature
    what = f"predicts {signature.target} ({_answers(signature)}) from {len(signature.inputs)} columns"
    return f'<h1>{escape(title)}</h1><p class="sub">{escape(what)} · {escape(facts.created)}</p>'


def _answers(signature: Signature) -> str:
    if signature.task is Task.REGRESSION:
        return "a number"
    shown = ", ".join(signature.classes[:5])
    return shown + (f" and {len(signature.classes) - 5} more" if len(signature.classes) > 5 else "")


def _results(facts: Facts) -> str:
    tiles = "".join(
        f'<div class="tile">{escape(_METRIC_NAMES.get(value.name, value.name))}<b>{value.value:.4g}</b></div>'
        for value in facts.metrics.values
    )
    return (
        f'<h2>Results on {facts.metrics.rows:,} held-out rows</h2><div class="tiles">{tiles}</div>'
        f"{_meaning(facts.signature)}{_comparison(facts.comparison)}"
    )


def _meaning(signature: Signature) -> str:
    if len(signature.classes) != _TWO_CLASSES:
        return ""
    return f"<p>Precision, recall and F1 are those of the class <b>{escape(signature.classes[1])}</b>.</p>"


def _comparison(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    sentence = (
        f"Beside version {comparison.incumbent_version}, which held alias {comparison.alias}: {comparison.metric} "
        f"{comparison.candidate:.4g} against {comparison.incumbent:.4g} on the same rows. The improvement is "
        f"{comparison.improvement:+.4g}, and with {comparison.confidence:.0%} confidence at least "
        f"{comparison.lower_bound:+.4g}."
    )
    return f"<p>{escape(sentence)}</p>"


def _warnings(warnings: Iterable[str]) -> str:
    notes = "".join(f'<div class="warning">{escape(sentence)}</div>' for sentence in warnings)
    return f"<h2>To look into</h2>{notes}" if notes else ""


def _columns(facts: Facts) -> str:
    rows = "".join(_column(column) for column in facts.reference.columns)
    return (
        f"<h2>Columns, over {facts.reference.rows:,} training rows</h2><table><thead><tr><th>Name</th><th>Kind</th>"
        f"<th>Missing</th><th>Values</th><th>Distribution</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _column(column: ReferenceColumn) -> str:
    share = column.counts[-1] / max(1, sum(column.counts))
    return (
        f"<tr><th>{escape(column.name)}</th><td>{column.kind}</td><td>{share:.1%}</td>"
        f"<td>{escape(_values(column))}</td><td>{_bars(column)}</td></tr>"
    )


def _values(column: ReferenceColumn) -> str:
    if column.kind is ColumnKind.CATEGORICAL:
        return ", ".join(column.categories[:3]) + (", …" if len(column.categories) > 3 else "")
    known = max(1, sum(column.counts[:-1]))
    if not column.edges:
        return "one value"
    if len(column.edges) < _TWO_ENDS:
        return f"{column.counts[0] / known:.0%} at most {column.edges[0]:.4g}"
    return f"{sum(column.counts[1:-2]) / known:.0%} within {column.edges[0]:.4g} … {column.edges[-1]:.4g}"


def _bars(column: ReferenceColumn) -> str:
    """Draw how the values lie: the density of numbers between the outer deciles, or the counts of categories."""
    shapes = _density(column) if column.kind is ColumnKind.NUMERIC else _counts(column)
    highest = max((height for _, _, height in shapes), default=0.0) or 1.0
    bars = []
    for left, width, height in shapes:
        tall = round(height / highest * _HEIGHT, 1)
        bars.append(f'<rect x="{left:.1f}" y="{_HEIGHT - tall:.1f}" width="{width:.1f}" height="{tall}"/>')
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" fill="#2f6fde" aria-hidden="true">{"".join(bars)}</svg>'


def _density(column: ReferenceColumn) -> list[tuple[float, float, float]]:
    """Return left, width and height of the bins that have two ends; in deciles the width tells, not the count."""
    edges = column.edges
    if len(edges) < _TWO_ENDS:
        return [(0, _WIDTH, 1)]
    scale = _WIDTH / (edges[-1] - edges[0])
    widths = [(high - low) * scale for low, high in pairwise(edges)]
    lefts = [(low - edges[0]) * scale for low in edges[:-1]]
    heights = [count / width for count, width in zip(column.counts[1:-2], widths, strict=True)]
    return list(zip(lefts, widths, heights, strict=True))


def _counts(column: ReferenceColumn) -> list[tuple[float, float, float]]:
    """Return left, width and height of a bar for each category and one for all others."""
    counts = column.counts[:-1]
    step = min(_WIDTH / len(counts), _WIDEST_BAR)
    return [(place * step, step - 1, count) for place, count in enumerate(counts)]


def _lineage(facts: Facts) -> str:
    source, data = facts.lineage, facts.lineage.dataset
    chosen = ", ".join(f"{name} {value}" for name, value in source.parameters.items())
    split = f"{data.validation_fraction:g}, seed {data.split_seed}"
    told = {
        "Training job": f"{source.job} (attempt {source.attempt}, uid {source.job_uid})",
        "Started by": source.trigger,
        "Algorithm": f"{source.algorithm}: {chosen}",
        "Data": data.uri,
        "Data digest": data.digest,
        "Rows": f"{data.rows:,}, of them {data.validation_rows:,} held out ({split})",
        "Parent": f"version {source.parent_version}" if source.parent_version is not None else "",
        "Time": _time(source.spent, source.attempt),
        "Image": source.image,
        "Modelwright": source.modelwright,
    }
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(text)}</code></td></tr>" for name, text in told.items() if text
    )
    return f"<h2>Where it comes from</h2><table><tbody>{rows}</tbody></table>"


def _time(spent: Spent | None, attempt: int) -> str:
    """Return what the process that wrote the card knows: its own time, and nothing of other attempts or of queues."""
    if spent is None:
        return ""
    parts = {
        "starting": spent.starting,
        "training": spent.training,
        "saving": spent.saving,
        "evaluating": spent.evaluating,
    }
    total = sum(parts.values())
    if not total:
        return ""
    told = ", ".join(f"{seconds:,.0f} s {name}" for name, seconds in parts.items())
    return (
        f"{spent.training / total:.0%} of {total:,.0f} s of attempt {attempt} trained: {told}, up to this page; "
        "queues, restarts and earlier attempts are in status.goodput of the job"
    )
