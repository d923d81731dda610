"""Which bin of the reference a value falls into."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from modelwright.api.artifacts import ColumnKind, ReferenceColumn


class NumericBins:
    """Bin i holds edges[i-1] < x <= edges[i]; the last is for missing values."""

    def __init__(self, column: ReferenceColumn) -> None:
        # Rounded as the model's inputs are: a value that lay on an edge in training must lie on it here too.
        self._edges = np.array(column.edges, dtype=np.float32)
        self.size = len(column.edges) + 2

    def count(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return how many of the values fall into each bin."""
        indices = np.searchsorted(self._edges, values, side="left")
        indices[np.isnan(values)] = self.size - 1
        return np.bincount(indices, minlength=self.size)


class TextBins:
    """One bin for each known category, one for all others, and the last for missing values."""

    def __init__(self, column: ReferenceColumn) -> None:
        self._other = len(column.categories)
        self._bins = {category: index for index, category in enumerate(column.categories)}
        self._bins[""] = self._other + 1
        self.size = self._other + 2

    def codes(self, values: Iterable[str]) -> list[int]:
        """Return the bin of each value."""
        find, other = self._bins.get, self._other
        return [find(value, other) for value in values]

    def count(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many codes name each bin."""
        return np.bincount(codes, minlength=self.size)


def bin_names(column: ReferenceColumn) -> list[str]:
    """Return a label for each bin, in order: the bin's number, and `missing` for the last."""
    bins = len(column.edges if column.kind is ColumnKind.NUMERIC else column.categories) + 1
    return [*map(str, range(bins)), "missing"]
