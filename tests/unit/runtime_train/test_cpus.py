import os
from pathlib import Path

import pytest

from modelwright.api.variables import CPUS_VARIABLE
from modelwright.runtime.cpus import available_cpus, cpu_limit


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of eight CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv(CPUS_VARIABLE, raising=False)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("6400000 100000", 8),
        ("max 100000", 8),
        ("?", 8),
        ("x 100000", 8),
        (None, 8),
    ],
)
def test_a_container_counts_its_own_cpus(tmp_path: Path, limit: str | None, cpus: int) -> None:
    path = tmp_path / "cpu.max"
    if limit is not None:
        path.write_text(limit)
    assert cpu_limit(path) == available_cpus(path) == cpus


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("limit", "told", "cpus"),
    [
        (None, "2", 2),
        (None, "64", 8),
        ("max 100000", "2", 2),
        ("100000 100000", "2", 1),
        ("max 100000", "0", 1),
        (None, "?", 8),
    ],
)
def test_what_kubernetes_says_counts_where_the_kernel_shows_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, told: str, cpus: int
) -> None:
    path = tmp_path / "cpu.max"
    if limit is not None:
        path.write_text(limit)
    monkeypatch.setenv(CPUS_VARIABLE, told)
    assert cpu_limit(path) == cpus


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("share", "cpus"), [("1", 1), ("3", 3), ("64", 4), ("0", 1), ("", 4), ("4,2", 4)])
def test_training_takes_the_share_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str, cpus: int
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text("400000 100000")
    monkeypatch.setenv("OMP_NUM_THREADS", share)
    assert available_cpus(path) == cpus
    assert cpu_limit(path) == 4
