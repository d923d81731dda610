"""Results of benchmarks: one line of JSON each, on standard output, that `e2e.bench.page` makes tables and plots of."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Record:
    """One run of a benchmark."""

    benchmark: str
    at: str
    """When it was done, in RFC 3339."""
    cpus: int
    load: float
    """The load average of the last minute, at the end: other programs may share the machine."""
    result: Mapping[str, Any]


def tell(benchmark: str, result: Mapping[str, Any]) -> None:
    """Print the line of a run that has just been done."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    machine = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps({"benchmark": benchmark, "at": now, **machine, "result": result}), flush=True)


def read(lines: Iterable[str]) -> dict[str, Record]:
    """Return the newest run of each benchmark; what is no line of a run is passed over."""
    found: dict[str, Record] = {}
    for line in lines:
        record = _record(line)
        if record is not None and (record.benchmark not in found or found[record.benchmark].at <= record.at):
            found[record.benchmark] = record
    return found


def middle(values: Iterable[float | None], digits: int = 2) -> float | None:
    """Return the median of what was measured, rounded; None where nothing was."""
    measured = [value for value in values if value is not None]
    return round(median(measured), digits) if measured else None


def ratio(value: float | None, unit: float | None, digits: int = 2) -> float | None:
    """Return a value in units; None where one of them was not measured."""
    return None if value is None or not unit else round(value / unit, digits)


def _record(line: str) -> Record | None:
    try:
        entry = json.loads(line)
        return Record(entry["benchmark"], entry["at"], entry["cpus"], entry["load"], entry["result"])
    except (ValueError, KeyError, TypeError):
        return None
