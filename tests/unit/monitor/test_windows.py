"""Windows on S3: aligned, truthful, and never in the way."""

from typing import Any

import numpy as np
import pytest

from modelwright.api.artifacts import Window
from modelwright.api.modeldeployment import Monitoring
from modelwright.api.run import ResolvedStorage
from modelwright.api.serve import Serve
from modelwright.registry.errors import StoreError
from modelwright.runtime.monitor.counters import Counters
from modelwright.runtime.monitor.windows import BACKLOG, WindowWriter
from tests.unit.monitor.test_counters import REFERENCE

SERVE = Serve(
    namespace="shop",
    deployment="churn",
    model="churn",
    version=3,
    storage=ResolvedStorage(uri="s3://models/team"),
    monitoring=Monitoring(window_seconds=60),
)
MINUTE = 1_800_000_000.0
assert MINUTE % 60 == 0


class Bench:
    """A writer with a clock and a store that can be told to fail."""

    def __init__(self, start: float = MINUTE + 10.5) -> None:
        self.now = start
        self.down = False
        self.store: dict[str, Window] = {}
        self.counters = Counters(REFERENCE, ["age"], ["city"])
        self.writer = WindowWriter(SERVE, "pod-1", self.counters, self.write, lambda: self.now)

    def write(self, key: str, document: dict[str, Any]) -> None:
        if self.down:
            raise StoreError("the S3 server cannot be reached")
        self.store[key] = Window.model_validate(document)

    def count(self, rows: int = 1) -> None:
        self.counters.record(
            np.full((1, rows), 20, np.float32), np.full((1, rows), "Bern", object), np.full(rows, "yes", object)
        )

    def at(self, seconds: float) -> None:
        """Go to a time after the minute and let the writer look."""
        self.now = MINUTE + seconds
        self.writer.step()

    @property
    def spans(self) -> list[tuple[str, str, int]]:
        return [(window.start[14:19], window.end[14:19], window.rows) for window in self.store.values()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_windows_end_at_multiples_of_their_length_and_the_first_begins_with_the_process(bench: Bench):
    bench.count()
    bench.at(59)
    assert bench.store == {}
    bench.at(60.2)
    bench.count(2)
    bench.at(120)
    assert bench.spans == [("00:10", "01:00", 1), ("01:00", "02:00", 2)]


def test_the_key_says_whose_window_it_is_and_when_it_began(bench: Bench):
    bench.count()
    bench.at(60)
    assert list(bench.store) == [f"monitoring/shop/churn/3/{int(MINUTE) + 10:012d}/pod-1.json"]


def test_the_document_holds_counts_and_nothing_else(bench: Bench):
    bench.count(2)
    bench.at(60)
    window = next(iter(bench.store.values()))
    assert window.columns == {"age": (0, 2, 0, 0), "city": (0, 2, 0, 0)}
    assert window.prediction == (0, 2, 0, 0)
    assert (window.model, window.version, window.replica) == ("churn", 3, "pod-1")


def test_a_window_without_traffic_is_not_written(bench: Bench):
    bench.at(60)
    bench.at(120)
    assert bench.store == {}


def test_a_store_that_is_down_is_tried_again_and_nothing_is_lost(bench: Bench):
    bench.down = True
    for minute in (1, 2):
        bench.count()
        bench.at(60 * minute)
    assert bench.writer.outcomes == {"written": 0, "failed": 2, "dropped": 0}
    bench.down = False
    bench.at(125)
    assert bench.spans == [("00:10", "01:00", 1), ("01:00", "02:00", 1)]
    assert bench.writer.outcomes["written"] == 2


def test_memory_is_bounded_when_the_store_stays_away_and_the_oldest_gives_way(bench: Bench):
    bench.down = True
    for minute in range(1, BACKLOG + 4):
        bench.count(minute)
        bench.at(60 * minute)
    assert bench.writer.outcomes["dropped"] == 3
    bench.down = False
    bench.at(60 * (BACKLOG + 4))
    assert [rows for _, _, rows in bench.spans] == list(range(4, BACKLOG + 4))


def test_a_window_that_could_not_end_in_time_says_how_long_it_really_was(bench: Bench):
    bench.count()
    bench.at(200)
    assert bench.spans == [("00:10", "03:00", 1)]


def test_finishing_writes_what_was_counted_so_far():
    bench = Bench()
    bench.writer.start()
    bench.count(3)
    bench.now = MINUTE + 15
    bench.writer.finish()
    assert bench.spans == [("00:10", "00:15", 3)]
    assert not bench.writer.is_alive()
