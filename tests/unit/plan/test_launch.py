import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from modelwright.api.failurepolicy import FailureClass
from modelwright.api.run import Failure
from modelwright.plan.launch import _HEARD, Program, ray_command, torch_command

COMMAND = ray_command(Program("unused", ("driver",)), job="j", service="s", startup_seconds=1800)
DAY = 86400.0


def torch(*command: str, startup_seconds: int = 1800) -> list[str]:
    return torch_command(
        Program("ours", command),
        job="j",
        service="s",
        replicas=2,
        run_id="r",
        processes="1",
        preflight=True,
        startup_seconds=startup_seconds,
    )


# A torch that has been imported, in a world with a clock of its own; what its DNS knows is in the environment.
IMPORTED = """
import os, socket, sys, time
now = [0.0]
time.monotonic = lambda: now[0]
def sleep(seconds):
    now[0] += seconds
time.sleep = sleep
places = {"j-0.s": float(os.environ["PLACED"]), "s": float(os.environ["DNS"])}
def getaddrinfo(name, port):
    if now[0] < places[name]:
        raise socket.gaierror(-2, "Name or service not known")
    return ["address"]
socket.getaddrinfo = getaddrinfo
def main():
    print(round(now[0]), *sys.argv)
"""


@pytest.fixture
def user(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the command of a pod of a user's program, where torchrun is a script of Python's as pip writes them."""
    package = tmp_path / "lib/torch/distributed"
    package.mkdir(parents=True)
    for name, text in (("../__init__", ""), ("__init__", ""), ("run", IMPORTED)):
        (package / f"{name}.py").write_text(text)
    (tmp_path / "torchrun").write_text(
        f"#!{sys.executable}\nimport sys\nfrom torch.distributed.run import main\nsys.exit(main())\n"
    )
    (tmp_path / "torchrun").chmod(0o755)

    def run(*, index: int = 1, placed: float = 0.0, dns: float = 0.0) -> "subprocess.CompletedProcess[str]":
        env = {
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "PYTHONPATH": str(tmp_path / "lib"),
            "JOB_COMPLETION_INDEX": str(index),
            "MODELWRIGHT_HOSTS": "j-{}.s",
            "PLACED": str(placed),
            "DNS": str(dns),
        }
        return subprocess.run(
            torch("train", "a b"), env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20
        )

    return run


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("index", [0, 1])
def test_a_program_of_the_users_finds_torchrun_as_it_is_where_worker_0_has_an_address(user: Run, index: int) -> None:
    done = user(index=index)
    assert (done.returncode, done.stderr) == (0, "")
    waited, name, conf, *others = done.stdout.split()
    assert (waited, Path(name).name) == ("0", "torchrun")
    assert conf.startswith(f"--rdzv-conf=is_host={int(index == 0)},")
    assert others[-5:] == ["--no-python", "--", "train", "a", "b"]


def test_a_worker_waits_for_the_node_of_worker_0_without_end_and_says_so_once_a_minute(user: Run) -> None:
    done = user(placed=3 * DAY)
    assert int(done.stdout.split()[0]) == 3 * DAY
    said = done.stderr.splitlines()
    assert set(said) == {"waiting for the address of worker 0 (j-0.s)"}
    assert len(said) <= 3 * DAY / 60


def test_worker_0_waits_for_its_own_address_within_torchrun(user: Run) -> None:
    assert user(index=0, placed=3 * DAY).stdout.startswith("0 ")


def test_a_worker_whose_dns_does_not_work_says_so_and_ends(user: Run) -> None:
    done = user(placed=3 * DAY, dns=2 * DAY)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "there is no address for worker 0 (j-0.s), nor for the Service of the gang: DNS does not work"
    )


@pytest.mark.parametrize("command", [(), ("train",)])
def test_peers_are_waited_for_without_end_and_a_slow_start_of_worker_0_for_longer_than_the_operator_does(
    command: tuple[str, ...],
) -> None:
    for startup, answer in ((60, 2100), (1800, 2100), (7200, 7500)):
        script = torch(*command, startup_seconds=startup)[2]
        (join,) = (int(part.partition("=")[2]) for part in script.split(",") if part.startswith("join_timeout"))
        assert join > 365 * DAY
        assert f',read_timeout={answer}"' in script


@pytest.mark.parametrize("command", [(), ("train",)])
def test_the_kubelet_finds_nothing_in_a_command_to_make_something_else_of(command: tuple[str, ...]) -> None:
    # $$ is a dollar sign to it, and $(NAME) a variable that it knows, or else what it is.
    assert "$$" not in torch(*command)[2]


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
def pod(tmp_path: Path, index: int, heard: str = "0.1 0.1", **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the command of a pod whose driver, or `ray start --block`, waits to be told to go and ends with 7 then.

    The memory that its processes share is that of its node.
    """
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
    argv = [part.replace(_HEARD, heard).replace("nap 0.2\n", "nap 0.05\n") for part in COMMAND]
    argv[2] = argv[2].replace("/dev/shm", str(tmp_path.parent / "shm"))
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
    with pod(tmp_path, 1, heard="60") as process:
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


def test_pods_that_share_the_memory_of_their_node_do_not_hear_what_another_one_is_asked(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    saves = str(os.getpid())
    with pod(mine, 0, MODELWRIGHT_STOP="", MODELWRIGHT_POD="uid-1"):
        mark = tmp_path / "shm/modelwright-uid-1/stop" / saves
        mark.touch()
        with pod(other, 0, MODELWRIGHT_STOP="", MODELWRIGHT_POD="uid-2") as process:
            (tmp_path / "shm/modelwright-uid-2/stop" / saves).touch()
            process.send_signal(signal.SIGTERM)
            soon((tmp_path / "shm/modelwright-uid-2/stop/asked").exists)
        assert [path.name for path in mark.parent.iterdir()] == [saves]


def test_a_pod_that_waits_for_its_head_leaves_when_it_is_asked_to(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\n: >> looked\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "JOB_COMPLETION_INDEX": "1",
        "MODELWRIGHT_STOP": str(tmp_path / "stop"),
    }
    with subprocess.Popen(COMMAND, env=env, cwd=tmp_path) as process:
        soon((tmp_path / "looked").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


# In a world with a clock of its own, which only sleep moves; what its DNS knows, and when worker 0 answers, is in the
# environment. The program is a look at a port, or for an address.
AWAITED = """\
#!/bin/sh
read -r now < uptime
case "$2 $3" in
  *connect*) at=$ANSWERS ;;
  *-0.s) at=$PLACED ;;
  *) at=$DNS ;;
esac
[ "${now%.*}" -ge "$at" ]
"""


@pytest.fixture
def worker(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the command of a pod of Ray that waits for its head."""
    tools = {
        "python": AWAITED,
        "sleep": "#!/bin/sh\nread -r now < uptime\necho $((${now%.*} + 30)).99 > uptime\n",
        "ray": "#!/bin/sh\necho joined at $(cat uptime)\n",
    }
    for name, text in tools.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "uptime").write_text("0.99\n")

    def run(
        *, answers: float = 1e6, placed: int = 0, dns: int = 0, startup: int = 1800
    ) -> "subprocess.CompletedProcess[str]":
        argv = ray_command(Program("unused"), job="j", service="s", startup_seconds=startup)
        argv[2] = argv[2].replace("/proc/uptime", "uptime").replace("/dev/termination-log", "message")
        env = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "JOB_COMPLETION_INDEX": "1",
            "MODELWRIGHT_STOP": "stop",
            "ANSWERS": str(int(answers)),
            "PLACED": str(placed),
            "DNS": str(dns),
        }
        return subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.mark.parametrize(("startup", "patience"), [(60, 2100), (1800, 2100), (7200, 7500)])
def test_a_worker_that_does_not_reach_its_head_says_so_once_a_minute_and_gives_up(
    worker: Run, tmp_path: Path, startup: int, patience: int
) -> None:
    done = worker(startup=startup)
    assert (done.returncode, done.stdout) == (1, "")
    why = "worker 0 (j-0.s) does not answer on port 6379; a NetworkPolicy or a firewall may block it"
    assert done.stderr.splitlines() == [*[f"waiting: {why}"] * (patience // 60 - 1), why]
    said = Failure.model_validate_json((tmp_path / "message").read_text())
    assert (said.reason, said.message, said.retryable, said.node) == ("PreflightFailed", why, True, "")
    assert said.failure_class is FailureClass.INFRASTRUCTURE


def test_a_worker_waits_for_a_head_without_a_node_for_longer_and_says_so(worker: Run) -> None:
    done = worker(placed=6000, answers=6600)
    assert (done.returncode, done.stdout) == (0, "joined at 6600.99\n")
    waits = done.stderr.splitlines()
    assert waits[0] == "waiting: worker 0 (j-0.s) has no address yet"
    assert waits[-1].startswith("waiting: worker 0 (j-0.s) does not answer")
    assert len(waits) == 6600 // 60


def test_a_worker_of_ray_whose_dns_does_not_work_says_so_and_ends(worker: Run, tmp_path: Path) -> None:
    done = worker(placed=10**6, dns=10**6)
    assert done.returncode == 1
    said = Failure.model_validate_json((tmp_path / "message").read_text())
    assert said.message == (
        "there is no address for worker 0 (j-0.s), nor for the Service of the gang: DNS does not work"
    )


def test_ray_runs_where_there_is_only_a_python3_and_says_so_where_there_is_none(tmp_path: Path) -> None:
    # What the script needs beside a Python.
    for name in ("sh", "rm", "mkdir", "sleep", "kill"):
        if (found := shutil.which(name)) is not None:
            (tmp_path / name).symlink_to(found)
    env = {"PATH": str(tmp_path), "JOB_COMPLETION_INDEX": "1", "MODELWRIGHT_STOP": str(tmp_path / "stop")}
    done = subprocess.run(COMMAND, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stderr) == (1, "there is no python on the PATH, nor python3\n")
    for name in ("python3", "ray"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(COMMAND, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 0


def test_a_pod_that_waits_for_the_node_of_worker_0_leaves_when_it_is_asked_to(tmp_path: Path) -> None:
    package = tmp_path / "lib/torch/distributed"
    package.mkdir(parents=True)
    for name, text in (("../__init__", ""), ("__init__", ""), ("run", "open('imported', 'w')")):
        (package / f"{name}.py").write_text(text)
    (tmp_path / "torchrun").write_text(f"#!{sys.executable}\n")
    (tmp_path / "torchrun").chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "PYTHONPATH": str(tmp_path / "lib"),
        "JOB_COMPLETION_INDEX": "1",
        "MODELWRIGHT_HOSTS": "worker-{}.invalid",
    }
    with subprocess.Popen(torch("train"), env=env, cwd=tmp_path) as process:
        soon((tmp_path / "imported").exists)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
