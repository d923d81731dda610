"""Which rows are held out: decided by each row's own content, so that it never depends on the other rows.

A row keeps its side when rows are added, when files are reordered, when CSV becomes Parquet, and when a later file
brings a column or writes text into a column of numbers. Equal rows are on the same side, so that no held-out row has
been seen in training.
"""

import hashlib
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from modelwright.api.artifacts import ColumnKind
from modelwright.runtime.train.columns import Floats, Table

Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

_SCALE = 2.0**64
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def held_out(table: Table, seed: int, fraction: float) -> npt.NDArray[np.bool_]:
    """Return for each row whether it is held out; about `fraction` of all distinct rows are."""
    return fingerprints(table, seed) < np.uint64(min(int(fraction * _SCALE), 2**64 - 1))


def fingerprints(table: Table, seed: int) -> Words:
    """Return a 64-bit hash of each row's content, uniform over all words and keyed by the seed."""
    total = np.full(table.rows, _key(f"seed {seed}"), dtype=np.uint64)
    for name, kind in table.kinds.items():
        column = table.frame[name]
        words, present = _numeric_words(column) if kind is ColumnKind.NUMERIC else _text_words(column)
        # A sum: the order of the columns does not count, but which value is in which column does. A missing value adds
        # nothing: it is the same as no column, which is what an older file has.
        total += np.where(present, _mix(words ^ _key(f"column {name}")), np.uint64(0))
    return _mix(total)


def _numeric_words(column: Any) -> tuple[Words, Mask]:
    values: Floats = column.to_numpy(dtype=np.float32)
    return _bits(values), ~np.isnan(values)


def _text_words(column: Any) -> tuple[Words, Mask]:
    codes, distinct = pd.factorize(column)
    keys = np.array([_word(str(text)) for text in distinct], dtype=np.uint64)
    present = np.array([text != "" for text in distinct], dtype=np.bool_)
    return keys[codes], present[codes]


def _word(text: str) -> np.uint64:
    """Return what stands for a text; a number counts as such, for in another file it may be one."""
    if not _NUMBER.fullmatch(text):
        return _key(text)
    with np.errstate(over="ignore"):
        value = np.array([float(text)]).astype(np.float32)
    return np.uint64(_bits(value + np.float32(0))[0])


def _bits(values: Floats) -> Words:
    words: npt.NDArray[np.uint32] = values.view(np.uint32)
    return words.astype(np.uint64)


def _key(text: str) -> np.uint64:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _mix(words: Words) -> Words:
    """Finalizer of SplitMix64 (Steele, Lea and Flood 2014): each input bit changes each output bit half of the time."""
    words = words ^ (words >> np.uint64(30))
    words = words * np.uint64(0xBF58476D1CE4E5B9)
    words = words ^ (words >> np.uint64(27))
    words = words * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
