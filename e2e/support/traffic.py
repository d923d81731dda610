"""Requests to a served model: rows out, predictions back, and how many of them were right."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import pandas as pd

_PAUSE_SECONDS = 0.02


@dataclass
class Score:
    """What came of some traffic."""

    rows: int = 0
    right: int = 0
    versions: set[int] = field(default_factory=set)

    @property
    def accuracy(self) -> float:
        """The share of predictions that were right."""
        return self.right / self.rows if self.rows else float("nan")


def predict(client: httpx.Client, base: str, model: str, rows: list[dict[str, object]]) -> dict[str, Any]:
    """Ask for predictions in the row form. Raises httpx.HTTPStatusError."""
    answer = client.post(f"{base}/v1/models/{model}:predict", json={"rows": rows})
    answer.raise_for_status()
    return dict(answer.json())


def batches(table: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    """Cut a table into batches of rows."""
    for start in range(0, len(table), size):
        yield table.iloc[start : start + size]


def rows_of(table: pd.DataFrame) -> list[dict[str, object]]:
    """Return a table as JSON rows; what is missing becomes null."""
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def send(client: httpx.Client, base: str, model: str, table: pd.DataFrame, target: str, size: int = 50) -> Score:
    """Send a labelled table in batches and score the answers against its labels."""
    score = Score()
    for batch in batches(table, size):
        answer = predict(client, base, model, rows_of(batch.drop(columns=[target])))
        predictions = answer["predictions"]
        assert isinstance(predictions, list)
        score.rows += len(batch)
        score.right += sum(said == true for said, true in zip(predictions, batch[target], strict=True))
        score.versions.add(int(str(answer["version"])))
    return score


class Steady:
    """Requests without end, on a connection that is kept and on a new one each time. Use it as a context manager."""

    def __init__(self, base: str, model: str, rows: list[dict[str, object]]) -> None:
        self.failures: list[str] = []
        """What went wrong; nothing is asked twice."""
        self.versions: list[str] = []
        """The version that gave each answer, in their order."""
        self._ask = (base, model, rows)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(keep,), daemon=True) for keep in (True, False)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_answers(self, count: int, timeout: float = 30) -> None:
        """Wait for so many more answers."""
        wanted, deadline = len(self.versions) + count, time.monotonic() + timeout
        while len(self.versions) < wanted:
            assert time.monotonic() < deadline, f"no answers any more; failures: {self.failures[-3:]}"
            time.sleep(_PAUSE_SECONDS)

    def _run(self, keep: bool) -> None:
        with httpx.Client(timeout=10) as kept:
            while not self._stop.wait(_PAUSE_SECONDS):
                try:
                    answer = predict(kept, *self._ask) if keep else self._anew()
                    self.versions.append(str(answer["version"]))
                except httpx.HTTPError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")

    def _anew(self) -> dict[str, Any]:
        with httpx.Client(timeout=10) as client:
            return predict(client, *self._ask)
