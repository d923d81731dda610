import os
import subprocess
from pathlib import Path

import pytest

from modelwright.plan.launch import Program, ray_command

COMMAND = ray_command(Program("unused", ("driver",)), job="j", service="s")


def head(tmp_path: Path, failures: int) -> "subprocess.CompletedProcess[str]":
    """Run the head's command where `ray start` fails so many times; each program writes down that it ran."""
    (tmp_path / "left").write_text(str(failures))
    tools = {
        "driver": 'echo "driver" >> ran',
        "ray": 'echo "ray $1" >> ran; [ "$1" = stop ] && exit 0\n'
        'left=$(cat left); [ "$left" = 0 ] && exit 0; echo $((left - 1)) > left; exit 1',
    }
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": "0"}
    return subprocess.run(COMMAND, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=10)


@pytest.mark.parametrize(
    ("failures", "code", "ran"),
    [
        (0, 0, ["ray start", "driver"]),
        (1, 0, ["ray start", "ray stop", "ray start", "driver"]),
        (2, 1, ["ray start", "ray stop", "ray start"]),
    ],
)
def test_ray_gets_a_second_chance_to_start_and_the_driver_never_runs_without_it(
    tmp_path: Path, failures: int, code: int, ran: list[str]
) -> None:
    done = head(tmp_path, failures)

    assert done.returncode == code
    assert (tmp_path / "ran").read_text().splitlines() == ran
