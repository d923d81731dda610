"""The first process of a container, around real programs."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelwright.runtime.logs.held import tell

SUPERVISED = [sys.executable, "-m", "modelwright.runtime.logs", "--"]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
SECRET = "do-not-tell"


class S3(BaseHTTPRequestHandler):
    """Takes whatever is put."""

    def do_PUT(self) -> None:
        self.server.puts[self.path] = self.rfile.read(int(self.headers["Content-Length"]))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def s3() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), S3)
    server.puts = {}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def started_by_the_operator(port: int) -> dict[str, str]:
    storage = {"uri": "s3://bucket/base", "endpoint": f"http://127.0.0.1:{port}"}
    run = {"namespace": "team", "name": "a", "uid": "u1", "attempt": 2, "storage": storage, "training": {}}
    keys = {"AWS_ACCESS_KEY_ID": "us", "AWS_SECRET_ACCESS_KEY": SECRET}
    return {**ENV, **keys, "MODELWRIGHT_RUN": json.dumps(run), "JOB_COMPLETION_INDEX": "4"}


def as_worker(index: str, port: int, **training: Any) -> dict[str, str]:
    env = started_by_the_operator(port)
    run = {**json.loads(env["MODELWRIGHT_RUN"]), "training": training}
    return {**env, "MODELWRIGHT_RUN": json.dumps(run), "JOB_COMPLETION_INDEX": index}


def supervised(script: str, env: dict[str, str] = ENV) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([*SUPERVISED, "sh", "-c", script], env=env, capture_output=True, check=False, timeout=30)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exec ./nothing-here 2>&-", 127)],
)
def test_the_programs_exit_code_is_its_own(script: str, code: int) -> None:
    assert supervised(script).returncode == code


def test_what_cannot_be_started_is_named() -> None:
    done = subprocess.run([*SUPERVISED, "no-such-program"], env=ENV, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (127, b"no-such-program: No such file or directory\n")
    done = subprocess.run([*SUPERVISED, "/etc"], env=ENV, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (126, b"/etc: Permission denied\n")
    done = subprocess.run(SUPERVISED, env=ENV, capture_output=True, check=False, timeout=30)
    assert done.returncode == 2


def test_output_goes_on_unchanged_and_each_stream_to_its_own() -> None:
    done = supervised(r"printf 'a\n\000b'; printf 'c\r\n\nd' >&2")
    assert (done.stdout, done.stderr) == (b"a\n\0b", b"c\r\n\nd")


def test_much_output_is_passed_on_whole() -> None:
    done = supervised("head -c 30000000 /dev/zero; echo end")
    assert len(done.stdout) == 30000004
    assert done.stdout.endswith(b"end\n")


def test_a_program_that_closes_its_output_goes_on() -> None:
    assert supervised("exec >&- 2>&-; sleep 0.2; exit 5").returncode == 5


def test_what_a_program_leaves_behind_is_not_waited_for() -> None:
    done = subprocess.Popen([*SUPERVISED, "sh", "-c", "sleep 20 & echo $!"], env=ENV, stdout=subprocess.PIPE)
    assert done.stdout is not None
    left = int(done.stdout.readline())
    assert done.wait(10) == 0
    os.kill(left, signal.SIGKILL)
    done.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_passed_on(number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 7' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen([*SUPERVISED, "sh", "-c", script], env=ENV, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(number)
        assert program.wait(10) == 7
        assert program.stdout.read() == b"got\n"


def test_a_broken_pipe_ends_a_program_as_it_does_elsewhere() -> None:
    assert supervised("yes | head -1; exit 4").stdout == b"y\n"
    assert supervised("yes | head -1; exit 4").stderr == b""


def test_the_end_of_the_log_is_kept_and_the_environment_is_not(s3: Any) -> None:
    done = supervised(
        "head -c 2000000 /dev/zero; echo; echo one; echo two >&2; exit 3", started_by_the_operator(s3.server_port)
    )
    assert done.returncode == 3
    ((path, text),) = s3.puts.items()
    assert path == "/bucket/base/runs/team/u1/attempts/2/logs/worker-4.log"
    assert sorted(text.split()[-2:]) == [b"one", b"two"]
    assert len(text) <= 2**20
    assert SECRET.encode() not in text + done.stdout + done.stderr


COMPLETED = "/bucket/base/runs/team/u1/attempts/2/completed.json"


def test_a_command_of_worker_0_that_ends_well_leaves_that_behind(s3: Any) -> None:
    assert supervised("exit 0", as_worker("0", s3.server_port)).returncode == 0
    assert s3.puts == {COMPLETED: b"{}"}


@pytest.mark.parametrize(
    ("script", "index", "training"),
    [("exit 3", "0", {}), ("kill -9 $$", "0", {}), ("exit 0", "1", {}), ("exit 0", "0", {"recipe": {"tabular": {}}})],
)
def test_nothing_else_does(s3: Any, script: str, index: str, training: dict[str, Any]) -> None:
    supervised(script, as_worker(index, s3.server_port, **training))
    assert s3.puts == {}


def test_who_was_asked_to_leave_is_not_done_though_it_ends_well(s3: Any) -> None:
    script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    env = as_worker("0", s3.server_port)
    with subprocess.Popen([*SUPERVISED, "sh", "-c", script], env=env, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0
    assert COMPLETED not in s3.puts


def test_a_store_that_is_not_there_does_not_keep_a_command_from_ending_well() -> None:
    done = supervised("echo out", as_worker("0", 1))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"")


@pytest.mark.parametrize("run", ["", "[]", "{}", '{"namespace": "a", "uid": "b", "attempt": "x"}'])
def test_without_a_place_to_keep_anything_the_program_runs_all_the_same(run: str) -> None:
    assert supervised("exit 3", {**ENV, "MODELWRIGHT_RUN": run}).returncode == 3


def test_without_a_disk_to_write_to_the_program_runs_and_its_log_is_kept(s3: Any) -> None:
    body = """
import os, tempfile
def full(**_): raise OSError(28, "No space left on device")
tempfile.mkdtemp = full
from modelwright.runtime.logs.main import main
os._exit(main(["sh", "-c", "echo said; exit 3"]))
"""
    env = started_by_the_operator(s3.server_address[1])
    done = subprocess.run([sys.executable, "-c", body], env=env, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (3, b"said\n")
    assert list(s3.puts.values()) == [b"said\n"]


def test_a_store_that_is_not_there_costs_neither_output_nor_exit_code() -> None:
    done = supervised("echo out; exit 3", started_by_the_operator(1))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"reason": "PeerLost", "message": "a Ray worker was lost"}', "Hang"),
        ('{"reason": "DataInvalid", "message": "no column y"}', "DataInvalid"),
        ("words", "words"),
        ("", "Hang"),
    ],
)
def test_a_held_interpreter_explains_a_lost_worker_and_nothing_else(tmp_path: Path, before: str, after: str) -> None:
    message = tmp_path / "message"
    message.write_text(before)
    tell({"0": b"Timeout (0:02:15)!\n"}, lambda data: None, message)
    assert after in message.read_text()


def test_stacks_that_processes_left_are_kept_printed_and_told(s3: Any, tmp_path: Path) -> None:
    message = tmp_path / "message"
    body = f"""
import os
from pathlib import Path
from modelwright.runtime.logs import held
held.TERMINATION_MESSAGE_FILE = {str(message)!r}
from modelwright.runtime.logs.main import main
script = 'echo "Timeout (0:02:15)!" > $MODELWRIGHT_STACKS/rank-1.txt; : > $MODELWRIGHT_STACKS/rank-0.txt; exit 1'
os._exit(main(["--", "sh", "-c", script]))
"""
    env = started_by_the_operator(s3.server_port)
    done = subprocess.run([sys.executable, "-c", body], env=env, capture_output=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stderr == b"rank 1 held the interpreter:\nTimeout (0:02:15)!\n"
    prefix = "/bucket/base/runs/team/u1/attempts/2/"
    assert set(s3.puts) == {prefix + "logs/worker-4.log", prefix + "stacks/rank-1.txt"}
    failure = json.loads(message.read_text())
    assert (failure["reason"], failure["failureClass"]) == ("Hang", "Hang")
    assert "on rank 1" in failure["message"]
