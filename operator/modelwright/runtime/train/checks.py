"""Is the data worth training on? What cannot work is an error; what looks wrong is a warning."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from modelwright.api.artifacts import ColumnKind
from modelwright.api.recipe import TabularRecipe, Task
from modelwright.runtime.failure import DataError
from modelwright.runtime.train.columns import Table

MIN_ROWS = 20
MAX_CLASSES = 1000
_MISSING_SHARE = 0.5
_IDENTIFIER_SHARE = 0.9
_IDENTIFIER_ROWS = 100
_LEAK_SCORE = 0.999
_LEAK_BINS = 64
_LEAK_ROWS = 20000
_LISTED = 8


def choose_features(table: Table, recipe: TabularRecipe) -> tuple[str, ...]:
    """Return the columns to predict from. Raises `DataError` when a named one is not there or cannot be used."""
    if table.rows < MIN_ROWS:
        raise DataError("DataInvalid", f"The data set has {table.rows} rows; at least {MIN_ROWS} are needed")
    for name in (recipe.target, *recipe.features):
        if name in table.unsupported:
            raise DataError("DataInvalid", f"Column {name} holds lists, structs or bytes, which no recipe reads")
        if name not in table.kinds:
            raise DataError("ColumnNotFound", f"There is no column {name}: the data has {_some(table.kinds)}")
    if recipe.target in recipe.features:
        raise DataError("DataInvalid", f"Column {recipe.target} is the target: take it out of features")
    chosen = recipe.features or tuple(name for name in table.kinds if name != recipe.target)
    if not chosen:
        raise DataError("DataInvalid", f"There is no column besides {recipe.target} to predict from")
    return tuple(dict.fromkeys(chosen))


def check_target(
    target: npt.NDArray[Any], classes: tuple[str, ...], aside: npt.NDArray[np.bool_], recipe: TabularRecipe
) -> None:
    """Raise `DataError` unless both parts of the split have rows and the target has something to learn."""
    name = recipe.target
    if not target.size:
        raise DataError("TargetInvalid", f"Column {name} has no value in any row")
    if not aside.any() or aside.all():
        raise DataError(
            "DataInvalid",
            f"{target.size} rows are too few to hold some out: raise dataset.validationFraction or add rows",
        )
    learnt = target[~aside]
    if recipe.task is Task.CLASSIFICATION and len(classes) > min(MAX_CLASSES, max(2, target.size // 2)):
        raise DataError(
            "TargetInvalid", f"Column {name} has {len(classes)} different values: is this a task of Regression?"
        )
    if not np.isfinite(learnt).all() or not np.isfinite(target).all():
        raise DataError("TargetInvalid", f"Column {name} holds values that are infinite or too large for float32")
    if np.unique(learnt).size < 2:  # two different answers are the least that can be learnt
        raise DataError("TargetInvalid", f"Column {name} has the same value in every training row")


def check_features(frame: Any, features: tuple[str, ...], kinds: dict[str, ColumnKind]) -> None:
    """Raise `DataError` for columns that say nothing or that name rows instead of describing them."""
    for name in features:
        column = frame[name]
        if kinds[name] is ColumnKind.NUMERIC:
            values = column.to_numpy()
            if np.isinf(values).any():
                raise DataError("DataInvalid", f"Column {name} holds values that are infinite or too large for float32")
            empty = bool(np.isnan(values).all())
        else:
            empty = bool((column == "").all())
            _check_identifier(name, column)
        if empty:
            raise DataError("DataInvalid", f"Column {name} has no value in any row: list the features without it")


def odd_columns(table: Table, frame: Any, features: tuple[str, ...], recipe: TabularRecipe) -> list[str]:
    """Return a sentence for each column that is mostly missing, constant, or was passed over."""
    found = []
    if table.unsupported and not recipe.features:
        found.append(f"Columns that hold lists, structs or bytes are not used: {_some(table.unsupported)}")
    for name in features:
        column = frame[name]
        missing = column.isna() if table.kinds[name] is ColumnKind.NUMERIC else column == ""
        share = float(missing.mean())
        if share > _MISSING_SHARE:
            found.append(f"Column {name} is missing in {share:.0%} of the rows")
        if column[~missing].nunique() == 1 and not missing.any():
            found.append(f"Column {name} has the same value in every row")
    return found


def leaks(features: Any, kinds: dict[str, ColumnKind], target: npt.NDArray[Any], classes: int) -> list[str]:
    """Return a sentence for each column that nearly determines the target by itself.

    A column is cut into up to 64 bins (a category each, or quantiles); the answer of a bin is learnt on every second
    row and tried on the others. Near-perfect answers from one column usually mean that it was filled in afterwards.
    """
    step = max(1, len(features) // _LEAK_ROWS)
    sample = target[::step]
    found = []
    for name in features.columns:
        bins = _bin(features[name].iloc[::step], kinds[name])
        score = _purity(bins, sample, classes) if classes else _fit(bins, sample.astype(np.float64))
        if score > _LEAK_SCORE and not _always_right_by_chance(sample, classes):
            found.append(f"Column {name} alone predicts the target almost perfectly: would it be known in time?")
    return found


def _check_identifier(name: str, column: Any) -> None:
    distinct = column.nunique()
    if len(column) >= _IDENTIFIER_ROWS and distinct > _IDENTIFIER_SHARE * len(column):
        raise DataError(
            "DataInvalid",
            f"Column {name} has {distinct} different texts in {len(column)} rows, like an identifier or free text: "
            "list the features without it",
        )


def _bin(column: Any, kind: ColumnKind) -> npt.NDArray[np.int64]:
    """Return a bin for every value; the last bins of a column with very many categories are shared."""
    if kind is ColumnKind.CATEGORICAL:
        codes = np.asarray(pd.factorize(column)[0], dtype=np.int64)
        return np.minimum(codes, _LEAK_BINS - 1)
    values = column.to_numpy(dtype=np.float64)
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _LEAK_BINS)[1:-1])) if known.size else np.empty(0)
    # Numbers with few values get a bin each: quantiles would put the rarest of them together.
    distinct = np.unique(known)
    if distinct.size < _LEAK_BINS:
        edges = (distinct[1:] + distinct[:-1]) / 2
    bins: npt.NDArray[np.int64] = np.searchsorted(edges, values).astype(np.int64)
    bins[np.isnan(values)] = edges.size + 1
    return bins


def _purity(bins: npt.NDArray[np.int64], target: npt.NDArray[Any], classes: int) -> float:
    """Return the accuracy of the majority class of each bin."""
    counts = np.zeros((bins.max() + 1, classes), dtype=np.int64)
    np.add.at(counts, (bins[::2], target[::2]), 1)
    return float((counts.argmax(axis=1)[bins[1::2]] == target[1::2]).mean())


def _fit(bins: npt.NDArray[np.int64], target: npt.NDArray[np.float64]) -> float:
    """Return the R² of the mean of each bin."""
    size = bins.max() + 1
    sums = np.bincount(bins[::2], target[::2], minlength=size)
    means = sums / np.maximum(np.bincount(bins[::2], minlength=size), 1)
    errors = target[1::2] - means[bins[1::2]]
    spread = target[1::2] - target[1::2].mean()
    return float(1 - (errors @ errors) / max(float(spread @ spread), np.finfo(np.float64).tiny))


def _always_right_by_chance(target: npt.NDArray[Any], classes: int) -> bool:
    """A target that is nearly always the same is predicted by anything."""
    return bool(classes) and float(np.bincount(target).max() / target.size) > _LEAK_SCORE - 0.01


def _some(names: Any) -> str:
    listed = [str(name) for name in names]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more
