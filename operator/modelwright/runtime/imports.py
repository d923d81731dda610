"""Importing what is large."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Do without the garbage collector: it would look at all that was imported again and again, and find nothing.

    That is an eighth of the time that torch, pandas and scikit-learn take.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
