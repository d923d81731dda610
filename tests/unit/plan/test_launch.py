import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from modelwright.plan.launch import _HEARD, Program, ray_command

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


STUBBORN = """\
#!/bin/sh
echo ready $RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S >> ran
trap 'echo told >> ran; exit 7' TERM
while :; do sleep 0.05; done
"""


def soon(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def pod(tmp_path: Path, index: int, heard: str = "1 2", **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the command of a pod whose driver, or `ray start --block`, waits to be told to go and ends with 7 then."""
    (tmp_path / "driver").write_text(STUBBORN)
    (tmp_path / "ray").write_text(STUBBORN if index else "#!/bin/sh\n")
    (tmp_path / "python").write_text("#!/bin/sh\n[ ! -e gone ]\n")  # with which the head is asked whether it is there
    (tmp_path / "ran").touch()
    for name in ("driver", "ray", "python"):
        (tmp_path / name).chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "JOB_COMPLETION_INDEX": str(index),
        "MODELWRIGHT_STOP": str(tmp_path / "stop"),
        **variables,
    }
    argv = [part.replace(_HEARD, heard).replace("  sleep 1\n", "  sleep 0.1\n") for part in COMMAND]
    with subprocess.Popen(argv, env=env, cwd=tmp_path, start_new_session=True) as process:
        try:
            soon(lambda: "ready" in (tmp_path / "ran").read_text())
            yield process
        finally:
            # Its children too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("index", [0, 1])
def test_a_pod_of_ray_in_which_nothing_saves_goes_at_once_when_it_is_asked_to(tmp_path: Path, index: int) -> None:
    with pod(tmp_path, index) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 7
        assert not (tmp_path / "stop/asked").exists()


@pytest.mark.parametrize("index", [0, 1])
def test_a_pod_of_ray_stays_until_what_trains_in_it_has_saved_and_left(tmp_path: Path, index: int) -> None:
    with pod(tmp_path, index) as process:
        mark = tmp_path / "stop" / str(os.getpid())
        mark.touch()
        (tmp_path / "stop/999999999").touch()  # a process that is gone
        process.send_signal(signal.SIGTERM)
        soon((tmp_path / "stop/asked").exists)
        time.sleep(0.4)
        assert "told" not in (tmp_path / "ran").read_text()
        mark.unlink()
        assert process.wait(10) == 7
        assert "told" in (tmp_path / "ran").read_text()


def test_a_pod_whose_head_is_gone_does_not_wait_for_it_to_hear(tmp_path: Path) -> None:
    with pod(tmp_path, 1, heard=" ".join(["1"] * 60)) as process:
        mark = tmp_path / "stop" / str(os.getpid())
        mark.touch()
        (tmp_path / "gone").touch()
        process.send_signal(signal.SIGTERM)
        soon((tmp_path / "stop/asked").exists)
        mark.unlink()
        assert process.wait(10) == 7


def test_a_pod_whose_head_is_gone_does_not_wait_for_ever_for_those_who_cannot_save_without_it(tmp_path: Path) -> None:
    with pod(tmp_path, 1) as process:
        (tmp_path / "stop" / str(os.getpid())).touch()
        process.send_signal(signal.SIGTERM)
        soon((tmp_path / "stop/asked").exists)
        time.sleep(2)
        assert process.poll() is None, "they save"
        (tmp_path / "gone").touch()
        assert process.wait(10) == 7


@pytest.mark.parametrize(
    ("wish", "told"), [({}, "ready 0"), ({"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "20"}, "ready 20")]
)
def test_ray_keeps_no_pod_for_requests_to_end_unless_it_is_told_to(
    tmp_path: Path, wish: dict[str, str], told: str
) -> None:
    with pod(tmp_path, 1, **wish):
        assert (tmp_path / "ran").read_text().splitlines() == [told]


def test_a_driver_that_ends_by_itself_when_its_workers_have_saved_is_the_end_of_its_pod(tmp_path: Path) -> None:
    with pod(tmp_path, 0) as process:
        (tmp_path / "stop" / str(os.getpid())).touch()
        process.send_signal(signal.SIGTERM)
        soon((tmp_path / "stop/asked").exists)
        # It is the only child of the shell that is no `sleep`.
        subprocess.run(["pkill", "-TERM", "-P", str(process.pid), "-x", "driver"], check=True)
        assert process.wait(10) == 7


def test_nothing_of_an_earlier_life_of_the_pod_is_taken_for_a_wish(tmp_path: Path) -> None:
    (tmp_path / "stop").mkdir()
    (tmp_path / "stop/asked").touch()
    with pod(tmp_path, 1):
        assert not (tmp_path / "stop/asked").exists()
