"""Rows to train on, and tables as files."""

import io

import numpy as np
import pandas as pd


def noisy(count: int) -> pd.DataFrame:
    """Return rows with a number `x`, and `y` (yes or no) that follows it, but not always."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"x": generator.normal(size=count)})
    frame["y"] = np.where(frame["x"] + generator.normal(size=count) > 0, "yes", "no")
    return frame


def parquet(table: pd.DataFrame) -> bytes:
    """Return a table as a Parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
