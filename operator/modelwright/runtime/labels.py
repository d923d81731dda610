"""How a number reads where it stands for a category: the same from a file in training and from a caller in use."""

import numpy as np

_WHOLE = 2.0**53
"""Up to here a double says which whole number is meant."""


def label(number: float) -> str:
    """Return a whole number in full, and any other as the shortest text that means it in float32: 3, 123456789, 0.1."""
    if number.is_integer() and abs(number) <= _WHOLE:
        return str(int(number))
    with np.errstate(over="ignore"):
        return np.format_float_positional(np.float32(number), trim="-")
