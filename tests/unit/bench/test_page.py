"""From what was measured to lines, tables and bars."""

import itertools
import json
import re
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.bench import bars, checkpoint_stall, goodput, page, recovery_node, results, scaling, startup
from e2e.bench.bars import Bar
from e2e.bench.checkpoint_stall import Round
from e2e.bench.faults import Fault, Hit, Kind
from e2e.bench.phases import PHASES, Start
from e2e.bench.recovery_node import Recovery
from e2e.bench.sections import SECTIONS
from e2e.bench.steps import Course, Point

COURSE = Course(
    [*(Point(float(at), at, 1) for at in range(1, 21)), *(Point(float(at), at - 15, 2) for at in range(31, 61))],
    {1: 0, 2: 15},
)
HITS = [Hit(Fault(0, Kind.PROCESS, 0), 20.5), Hit(Fault(60, Kind.POD, 1), 50.5)]


def trial(book: dict[str, Any]) -> dict[str, Any]:
    return goodput.summary(goodput.Trial(COURSE, [(5.0, 20.0), (60.0, 65.0)], 20.0, 60.0, HITS, book), faults=3)


RESULTS: dict[str, dict[str, Any]] = {
    "startup": startup.result(
        {
            "recipe": {"cold": [Start(0.0, {"pods": 1.0, "step": 30.0})], "warm": [Start(0.0, {"step": 20.0})]},
            "plain": {"cold": [], "warm": [Start(0.0, dict.fromkeys(PHASES, 24.0))]},
        },
        [9.0, 10.0, 12.0],
        812.3,
    ),
    "scaling": scaling.result({"recipe": {1: 8.0, 2: 7.6, 4: 6.0}, "plain": {2: 7.0}}, 2),
    "goodput": goodput.result(
        {"recipe": trial({"share": 0.7, "seconds": {"training": 42}}), "plain": trial({})},
        Namespace(minutes=20.0, every=60.0, checkpoint_every=2, seed=0),
    ),
    "recovery_node": recovery_node.result(
        {
            "recipe": {Kind.PROCESS: [Recovery(8.0, 3), Recovery(12.0, 5)], Kind.POD: [Recovery(None, 0)]},
            "plain": {Kind.PROCESS: [Recovery(30.0, 9)], Kind.NODE: [Recovery(400.0, 9)]},
        },
        [10.0],
        2,
    ),
    "recovery": {
        "rounds": 2,
        "cold_seconds": [14.7, 15.0],
        "in-place": {
            "seconds": [35.0, 39.0],
            "ratio": 2.5,
            "of_which_process": [30.0, 31.0],
            "steps_made_again": [1, 2],
        },
        "loop": {"seconds": [38.0], "ratio": 2.6, "of_which_process": [30.0], "steps_made_again": [0]},
    },
    "checkpoint_stall": {
        "interval_seconds": 30,
        "sizes": [
            asdict(checkpoint_stall.stall(1, [Round(0.2, 0.005, -0.001, 0.025), Round(0.2, 0.007, 0.03, 0.035)]))
        ],
    },
    "throughput": {"runs": [{"objects_per_second": 90.0}], "share": 0.62, "rss_mib": 120.0},
}


def record(name: str, at: str = "2026-11-23T12:00:00Z") -> results.Record:
    return results.Record(name, at, 2, 3.1, json.loads(json.dumps(RESULTS[name])))


def test_a_line_that_was_told_is_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    results.tell("goodput", RESULTS["goodput"])
    (line,) = capsys.readouterr().out.splitlines()
    found = results.read([line])["goodput"]
    assert found.result == json.loads(json.dumps(RESULTS["goodput"]))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.at)


def line(at: str, value: int) -> str:
    return json.dumps({"benchmark": "goodput", "at": at, "cpus": 2, "load": 1.0, "result": {"value": value}})


def test_the_newest_run_counts_and_what_is_no_run_is_passed_over() -> None:
    lines = [line("2026-11-23T12:00:00Z", 1), line("2026-11-24T12:00:00Z", 2), line("2026-11-22T12:00:00Z", 3)]
    found = results.read(["", "no json", "[1]", "{}", *lines])
    assert {name: each.result["value"] for name, each in found.items()} == {"goodput": 2}


def test_a_median_is_that_of_what_was_measured() -> None:
    assert results.middle([3.0, None, 1.0]) == 2.0
    assert results.middle([None]) is None
    assert results.ratio(3.0, 2.0) == 1.5
    assert results.ratio(None, 2.0) is None
    assert results.ratio(3.0, None) is None


def test_every_subset_of_the_benchmarks_makes_a_page() -> None:
    for size in range(len(SECTIONS) + 1):
        for names in itertools.combinations(SECTIONS, size):
            text, pictures = page.render({name: record(name) for name in names}, "benchmarks")
            assert text.count("\n## ") == len(names)
            assert {f"benchmarks/{name}" for name in pictures} == set(re.findall(r"\]\(([^)]+\.svg)\)", text))


@pytest.mark.parametrize("name", SECTIONS)
def test_a_table_has_as_many_cells_in_every_row(name: str) -> None:
    section = SECTIONS[name](record(name).result)
    assert section.rows
    assert {len(row) for row in section.rows} == {len(section.head)}
    assert "None" not in section.table
    assert "nan" not in section.table


def table(name: str) -> str:
    return SECTIONS[name](record(name).result).table


def test_a_fault_that_nobody_recovered_from_has_no_figure() -> None:
    assert "| a worker's process killed | 10.0 (1.00) | 30.0 (3.00) |" in table("recovery_node")
    assert "| a worker's pod deleted | - | - |" in table("recovery_node")
    assert "| a worker's node lost | - | 400.0 (40.00) |" in table("recovery_node")


def test_a_lost_node_which_takes_minutes_is_in_the_table_only() -> None:
    section = SECTIONS["recovery_node"](record("recovery_node").result)
    assert [bar.label for bar in section.bars] == ["process: recipe", "process: plain"]
    assert section.text.endswith("is in the table only.")


def test_goodput_is_told_beside_that_of_the_plain_job_and_of_the_status() -> None:
    told = RESULTS["goodput"]["contenders"]["recipe"]
    # 25 steps further in 40 s at a speed of one a second: from 20 to 45.
    assert told["share"] == 0.625
    assert (told["steps"], told["steps_lost"], told["hits"], told["ratio"]) == (25, 5, 2, 1.0)
    assert told["recovery"]["process"] == {"median_seconds": 10.5, "seconds": [10.5]}
    assert told["recovery"]["pod"] == {"median_seconds": None, "seconds": [None]}
    assert "| TrainingJob, recipe | 62.5% | 1 | 70.0% | 5 | 10.5 | - |" in table("goodput")
    assert "| plain Job, torchrun | 62.5% | 1 | - | 5 | 10.5 | - |" in table("goodput")


def test_a_recovery_that_the_next_fault_overtook_does_not_count() -> None:
    hits = [Hit(Fault(0, Kind.PROCESS, 0), 20.5), Hit(Fault(5, Kind.PROCESS, 0), 25.0)]
    found = goodput.recoveries(COURSE, hits, 60.0)
    assert found == {"process": {"median_seconds": 6.0, "seconds": [None, 6.0]}}


def test_a_start_is_told_in_units_of_the_bare_script() -> None:
    recipe = RESULTS["startup"]["contenders"]["recipe"]
    assert (recipe["cold"]["seconds"], recipe["cold"]["ratio"]) == (30.0, 3.0)
    assert recipe["cold"]["phases"] == {"pods": 1.0, "step": 29.0}
    assert "| all | 30 | 20 | 24 |" in table("startup")


def test_scaling_is_told_against_one_worker() -> None:
    assert [each["loss"] for each in RESULTS["scaling"]["contenders"]["recipe"]] == [0.0, 0.05, 0.25]
    assert "| 4 | 6.00 (25%) | - |" in table("scaling")
    assert "| 2 | 7.60 (5%) | 7.00 |" in table("scaling"), "without one worker there is no loss to tell"


def test_the_page_and_its_plots_are_written(tmp_path: Path) -> None:
    lines = tmp_path / "benchmarks" / "results.jsonl"
    lines.parent.mkdir()
    lines.write_text(line("2026-11-23T12:00:00Z", 1).replace('{"value": 1}', json.dumps(RESULTS["goodput"])) + "\n")
    page.main([str(lines), "--page", str(tmp_path / "benchmarks.md")])
    assert "![Goodput under faults](benchmarks/goodput.svg)" in (tmp_path / "benchmarks.md").read_text()
    assert (lines.parent / "goodput.svg").read_text().startswith("<svg")


def test_without_results_the_page_says_what_it_is(tmp_path: Path) -> None:
    page.main([str(tmp_path / "results.jsonl")])
    assert (tmp_path / "benchmarks.md").read_text().startswith("# Benchmarks\n")


def test_the_published_page_and_its_plots_are_those_of_the_published_results() -> None:
    docs = Path(__file__).parents[3] / "docs"
    folder = docs / "benchmarks"
    text, pictures = page.render(results.read((folder / "results.jsonl").read_text().splitlines()), folder.name)
    assert (docs / "benchmarks.md").read_text() == text
    assert {path.name: path.read_text() for path in folder.glob("*.svg")} == pictures


def rectangles(picture: str) -> list[tuple[float, float]]:
    """Return left edge and width of all but the ground."""
    found = ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314 (our own)
    return [(float(each.attrib["x"]), float(each.attrib["width"])) for each in found if "x" in each.attrib]


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    (_, first), (_, second) = rectangles(bars.svg("a", [Bar("x", [("one", 2.0)]), Bar("y", [("one", 1.0)])]))
    assert first == 2 * second


def test_parts_stand_side_by_side_and_have_a_legend() -> None:
    picture = bars.svg("a", [Bar("x", [("one", 2.0), ("two", 1.0)])])
    (left, width), (beside, _), *legend = rectangles(picture)
    assert beside == left + width
    assert len(legend) == 2


_TEXT = st.text(st.characters(exclude_categories=["C"]), max_size=20)
_VALUES = st.floats(-10, 1e6)


@given(_TEXT, st.lists(st.builds(Bar, _TEXT, st.lists(st.tuples(_TEXT, _VALUES), max_size=4), _TEXT), max_size=4))
def test_whatever_is_shown_the_picture_is_well_formed(title: str, shown: list[Bar]) -> None:
    root = ET.fromstring(bars.svg(title, shown, line=1.0))  # noqa: S314 (our own)
    width = float(root.attrib["viewBox"].split()[2])
    for left, wide in rectangles(ET.tostring(root, encoding="unicode")):
        assert 0 <= left <= left + wide <= width + 0.2
