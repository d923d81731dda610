"""A learning problem: which columns predict what, on which rows to learn, and which to keep for evaluation."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelwright.api.artifacts import ColumnKind, InputColumn, Signature
from modelwright.api.recipe import TabularRecipe, Task
from modelwright.api.trainingjob import Dataset
from modelwright.runtime.failure import DataError
from modelwright.runtime.train import checks
from modelwright.runtime.train.columns import Table, labels
from modelwright.runtime.train.split import held_out

logger = logging.getLogger(__name__)

_MERGED_FROM = 2**24
"""From here on not every whole number is a float32."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a problem."""

    features: Any
    """A pandas DataFrame with the user's column names: float32 or strings."""
    target: npt.NDArray[Any]
    """int64 positions in `Split.classes`, or float32."""

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Split:
    """A problem and its two parts; they share no row."""

    task: Task
    target: str
    columns: tuple[InputColumn, ...]
    classes: tuple[str, ...]
    """Labels in sorted order; empty for regression."""
    train: Rows
    held_out: Rows
    aside: Any
    """A DataFrame of the held-out rows with every column: another model may read others than this one."""
    kinds: dict[str, ColumnKind]
    """Of all columns of `aside`."""
    warnings: tuple[str, ...]
    digest: str
    """Of the data set."""

    @property
    def outputs(self) -> int:
        """How many scores the model gives for a row: one for each class, or the estimate."""
        return len(self.classes) or 1

    @property
    def signature(self) -> Signature:
        """What goes into the model and what comes out."""
        probabilities = "probabilities" if self.classes else None
        return Signature(
            task=self.task,
            target=self.target,
            inputs=self.columns,
            classes=self.classes,
            probabilities_output=probabilities,
        )


def prepare(
    table: Table,
    recipe: TabularRecipe,
    dataset: Dataset,
    warn: Callable[[str], None] = logger.warning,
    *,
    search: bool = False,
) -> Split:
    """Check a data set, choose the columns and split the rows.

    A `search` learns and is scored on what a job would train on alone: the best of many on some rows looks better there
    than it is, and the gate must not be fooled by that. What is odd but can be learnt from goes to `warn` and into the
    result. Raises `DataError` with the reason ColumnNotFound, TargetInvalid or DataInvalid for what cannot.
    """
    features = checks.choose_features(table, recipe)
    usable = _with_target(table, recipe)
    missing = table.rows - int(usable.sum())
    aside = held_out(table, dataset.split_seed, dataset.validation_fraction)
    if search:
        usable = usable & ~aside
        aside = held_out(table, dataset.split_seed + 1, dataset.validation_fraction)
    aside = aside[usable]
    frame = table.frame.loc[usable].reset_index(drop=True)
    target, classes = _encode_target(frame[recipe.target], table.kinds[recipe.target], recipe)
    checks.check_target(target, classes, aside, recipe)
    checks.check_features(frame, features, table.kinds)
    warnings = [
        *checks.odd_columns(table, frame, features, recipe),
        *checks.leaks(frame[list(features)], table.kinds, target, len(classes)),
    ]
    if missing:
        warnings.append(f"{missing} rows without a value of {recipe.target} are left out")
    for sentence in warnings:
        warn(sentence)
    parts = [Rows(frame.loc[mask, list(features)].reset_index(drop=True), target[mask]) for mask in (~aside, aside)]
    return Split(
        task=recipe.task,
        target=recipe.target,
        columns=name_inputs(features, table.kinds),
        classes=classes,
        train=parts[0],
        held_out=parts[1],
        aside=frame.loc[aside].reset_index(drop=True),
        kinds=table.kinds,
        warnings=tuple(warnings),
        digest=table.digest,
    )


def name_inputs(features: tuple[str, ...], kinds: dict[str, ColumnKind]) -> tuple[InputColumn, ...]:
    """Give every column an input of the graph: letters, digits and `_`, told apart by a number."""
    return tuple(
        InputColumn(name=name, input=f"c{number}_{_clean(name)}", kind=kinds[name])
        for number, name in enumerate(features)
    )


def _clean(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)[:40]


def _with_target(table: Table, recipe: TabularRecipe) -> npt.NDArray[np.bool_]:
    values = table.frame[recipe.target]
    present = values.notna() if table.kinds[recipe.target] is ColumnKind.NUMERIC else values != ""
    return np.asarray(present, dtype=np.bool_)


def _encode_target(values: Any, kind: ColumnKind, recipe: TabularRecipe) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if recipe.task is Task.REGRESSION:
        if kind is not ColumnKind.NUMERIC:
            raise DataError(
                "TargetInvalid",
                f"Column {recipe.target} holds text: regression needs numbers, or set task Classification",
            )
        return values.to_numpy(dtype=np.float32), ()
    texts = _numeric_classes(values, recipe.target) if kind is ColumnKind.NUMERIC else values.to_numpy(dtype=object)
    classes, codes = np.unique(texts.astype(str), return_inverse=True)
    return codes.astype(np.int64), tuple(str(name) for name in classes)


def _numeric_classes(values: Any, target: str) -> npt.NDArray[np.object_]:
    numbers = values.to_numpy(dtype=np.float32)
    if (np.abs(numbers) >= _MERGED_FROM).any():
        raise DataError(
            "TargetInvalid",
            f"Column {target} holds numbers of {_MERGED_FROM:,} and more, of which float32 merges neighbours: write "
            "the classes as text",
        )
    return labels(numbers)
