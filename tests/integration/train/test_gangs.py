"""Real processes, gloo and FSDP2: a state is written in pieces and taken over by another number of processes."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
_RESHARDED, _STOPPED, _STOPPED_IN_SHARDS = "1,2,3,1", "2:stop-whole,2,1", "2:stop,3"
_MET = "2:meet"
_APART = "2:apart,3:apart,1:apart"
_FROZEN = "2:frozen,3:frozen"
_OWN = "2:own,2:own,3:own"
_STAGES = "2:stages"
_TIMEOUT_SECONDS = 300

pytestmark = pytest.mark.timeout(_TIMEOUT_SECONDS)

Stories = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gangs")


@pytest.fixture(scope="module")
def stories(folder: Path) -> Stories:
    """What the first process of each gang saw."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MODELWRIGHT_")}
    words = (_RESHARDED, _STOPPED, _STOPPED_IN_SHARDS, _MET, _APART, _FROZEN, _OWN, _STAGES)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("gangs.py"), folder, *words],
        env={**outside, "PYTHONPATH": os.pathsep.join(map(str, [ROOT / "operator", ROOT]))},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {word: [each for each in told if each["story"] == word] for word in words}


def test_a_sharded_state_is_taken_over_by_more_and_by_fewer_processes(stories: Stories, folder: Path) -> None:
    seen = stories[_RESHARDED]
    assert [(entry["size"], entry["first"]) for entry in seen] == [(1, 0), (2, 3), (3, 6), (1, 9)]
    for before, after in pairwise(seen):
        assert after["found"] == before["saved"]
    newest = folder / _RESHARDED / "runs/local/desk/checkpoints/000000000009"
    assert {path.name for path in newest.iterdir()} >= {"rank-00000.safetensors", "rank-00002.safetensors"}


def test_a_gang_of_which_one_process_is_asked_to_leave_saves_and_leaves_at_one_step(stories: Stories) -> None:
    # What DDP saves whole is taken over in shards.
    stopped, sharded, after = stories[_STOPPED]
    assert stopped["stopped"] == 2, "the others hear of it a step later"
    assert (sharded["first"], sharded["found"]) == (3, stopped["saved"])
    assert (after["first"], after["found"]) == (6, sharded["saved"])


def test_a_gang_that_is_asked_to_leave_waits_for_every_shard(stories: Stories) -> None:
    stopped, after = stories[_STOPPED_IN_SHARDS]
    assert (after["first"], after["found"]) == (3, stopped["saved"])


def test_a_process_with_nothing_to_write_waits_for_those_that_write(stories: Stories) -> None:
    # It looks itself whether the checkpoint is complete, and fails where not.
    assert [entry["size"] for entry in stories[_MET]] == [2]


def test_one_optimizer_of_two_sharded_modules_is_taken_over_in_shards(stories: Stories) -> None:
    seen = stories[_APART]
    assert [(entry["size"], entry["first"]) for entry in seen] == [(2, 0), (3, 3), (1, 6)]
    for before, after in pairwise(seen):
        assert after["found"] == before["saved"]


def test_moments_of_layers_that_are_frozen_when_a_gang_resumes_come_back_in_shards(stories: Stories) -> None:
    before, after = stories[_FROZEN]
    assert (after["first"], after["found"]) == (3, before["saved"])


def test_each_process_goes_on_reading_where_it_was_and_what_all_have_alike_goes_to_any_number(stories: Stories) -> None:
    gangs = [
        [each for each in stories[_OWN] if (each["size"], each["average"]) == key] for key in ((2, 0), (2, 1), (3, 2))
    ]
    rows = [{each["rank"]: each["read"] for each in gang} for gang in gangs]
    assert rows[:2] == [{0: [0, 2, 4], 1: [1, 3, 5]}, {0: [6, 8, 10], 1: [7, 9, 11]}]
    assert rows[2] == {0: [0, 3, 6], 1: [1, 4, 7], 2: [2, 5, 8]}, "positions among the rows of two are none of three"


def test_modules_that_differ_between_processes_are_refused_but_not_in_an_object_of_each(stories: Stories) -> None:
    (seen,) = stories[_STAGES]
    assert seen["error"].startswith("stage: not the same on all processes, and a checkpoint takes that of rank 0 alone")
