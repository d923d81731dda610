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
_TIMEOUT_SECONDS = 200


def gangs(folder: Path, *sizes: str) -> list[dict[str, Any]]:
    """Run gangs one after the other on one folder and return what their first processes saw."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MODELWRIGHT_")}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("gangs.py"), folder, *sizes],
        env={**outside, "PYTHONPATH": os.pathsep.join(map(str, [ROOT / "operator", ROOT]))},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.timeout(_TIMEOUT_SECONDS)
def test_a_sharded_state_is_taken_over_by_more_and_by_fewer_processes(tmp_path: Path) -> None:
    seen = gangs(tmp_path, "1", "2", "3", "1")
    assert [(entry["size"], entry["first"]) for entry in seen] == [(1, 0), (2, 3), (3, 6), (1, 9)]
    for before, after in pairwise(seen):
        assert after["found"] == before["saved"]
    newest = tmp_path / "runs/local/desk/checkpoints/000000000009"
    assert {path.name for path in newest.iterdir()} >= {"rank-00000.safetensors", "rank-00002.safetensors"}


@pytest.mark.timeout(_TIMEOUT_SECONDS)
def test_a_gang_of_which_one_process_is_asked_to_leave_saves_and_leaves_at_one_step(tmp_path: Path) -> None:
    # What DDP saves whole is taken over in shards.
    stopped, sharded, after = gangs(tmp_path, "2:stop-whole", "2", "1")
    assert stopped["stopped"] == 2, "the others hear of it a step later"
    assert (sharded["first"], sharded["found"]) == (3, stopped["saved"])
    assert (after["first"], after["found"]) == (6, sharded["saved"])


@pytest.mark.timeout(_TIMEOUT_SECONDS)
def test_a_gang_that_is_asked_to_leave_waits_for_every_shard(tmp_path: Path) -> None:
    stopped, after = gangs(tmp_path, "2:stop", "3")
    assert (after["first"], after["found"]) == (3, stopped["saved"])
