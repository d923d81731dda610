"""Small parts of the scenarios' support."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from e2e.bench.serving import read_answer
from e2e.scenarios import specs
from e2e.scenarios.pace import Pace, pace_of
from e2e.scenarios.space import columns
from e2e.support.journal import Entry
from e2e.support.operator_pods import OperatorPods
from modelwright.api.kinds import KINDS

_SPACE = [{"name": "lightGBM.numLeaves", "int": {"min": 2, "max": 9}}]


def test_a_change_is_merged_into_a_spec_and_leaves_the_original_alone() -> None:
    job = specs.trees("a", "s3://bucket/rows.csv", "model")
    other = specs.changed(job, recipe={"tabular": {"features": ["x"]}}, suspend=True)
    assert other["spec"]["recipe"]["tabular"] == {**job["spec"]["recipe"]["tabular"], "features": ["x"]}
    assert other["spec"]["suspend"] is True
    assert "suspend" not in job["spec"]


def test_a_printed_table_is_read_by_column_even_where_cells_are_empty() -> None:
    printed = "NAME   STATUS      STEP   OF   MODEL\na      Succeeded   7           flight-delay\n"
    assert columns(printed) == {"NAME": "a", "STATUS": "Succeeded", "STEP": "7", "OF": "", "MODEL": "flight-delay"}


def test_every_spec_is_one_that_the_api_knows() -> None:
    trees = specs.trees("a", "s3://bucket/rows.csv", "model")
    made: list[dict[str, Any]] = [
        trees,
        specs.network("a", "s3://bucket/rows.csv", "model", replicas=2, steps=3),
        specs.command("a", "pass", replicas=2),
        specs.deployment("a"),
        specs.deployment("a", version=3),
        specs.policy("a", "a", {"test": {}}),
        specs.sweep("a", trees, {"searchSpace": _SPACE, "objective": {"metric": "roc_auc"}}),
    ]
    kinds = {kind.kind: kind.spec for kind in KINDS}
    for entry in made:
        kinds[entry["kind"]].model_validate(entry["spec"])


def heard(*paces: float | None) -> list[Entry]:
    progress = [{} if pace is None else {"progress": {"step": 7, "secondsPerStep": pace}} for pace in paces]
    return [Entry({"status": status}, deleted=False, at=0.0) for status in progress]


@pytest.mark.parametrize(
    ("entries", "seconds_per_step"), [(heard(None, 0.3, 0.2, 0.25), 0.2), (heard(0.1), 0.1), (heard(None), 0.0)]
)
def test_a_pace_is_what_a_job_told_of_itself_at_its_best(entries: list[Entry], seconds_per_step: float) -> None:
    assert pace_of(entries).seconds_per_step == seconds_per_step


@pytest.mark.parametrize(("seconds_per_step", "steps"), [(0.05, 400), (0.1, 200), (0.001, 2000), (0.0, 2000)])
def test_a_job_lasts_as_long_as_wanted_within_bounds(seconds_per_step: float, steps: int) -> None:
    assert Pace(seconds_per_step).steps(20) == steps
    assert Pace(seconds_per_step).steps(1) >= 40


def test_a_job_is_long_enough_where_its_pace_was_told_while_others_had_the_machine() -> None:
    assert Pace(0.52).steps(20) == Pace(0.1).steps(20)


def pieces(*data: bytes) -> Callable[[int], bytes]:
    left = iter(data)
    return lambda _: next(left, b"")


def test_the_benchmark_of_serving_reads_an_answer_that_comes_in_pieces() -> None:
    read_answer(pieces(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n", b"\r\nab", b"cd"))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((), "closed the connection"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab",), "closed the connection"),
        ((b"HTTP/1.1 500 Oops\r\n\r\nno",), "500 Oops: no"),
    ],
)
def test_the_benchmark_of_serving_ends_when_the_server_does(answer: tuple[bytes, ...], why: str) -> None:
    with pytest.raises(RuntimeError, match=why):
        read_answer(pieces(*answer))


def test_nobody_may_lead_while_the_operator_is_away_and_anybody_may_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, Any]] = []

    def run(*words: str) -> str:
        assert words[:3] == ("patch", "lease", "modelwright")
        said.append(json.loads(words[-1].removeprefix("--patch="))["spec"])
        return ""

    target: Any = SimpleNamespace(local=True, kubectl=SimpleNamespace(run=run))
    pods = OperatorPods(target)
    monkeypatch.setattr(pods, "kill_leader", lambda: "operator-1")
    with pods.away() as gone:
        assert gone == "operator-1"
        assert said == [{"holderIdentity": "nobody", "leaseDurationSeconds": 3600}]
    assert said[1:] == [{"leaseDurationSeconds": 1}]
