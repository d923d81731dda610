"""A recorded process is recognised, and nobody else is ever signalled in its place."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.cluster import ports
from e2e.cluster.errors import ClusterError
from e2e.cluster.processes import Component, Record, Supervisor, start_mark

_SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def supervisor(tmp_path):
    made = Supervisor(tmp_path / "pids", tmp_path / "logs")
    yield made
    made.stop("sleeper")


def test_a_process_is_itself():
    assert Record(os.getpid(), start_mark(os.getpid()), "").alive()


def test_a_process_that_took_over_the_id_is_not_taken_for_the_one_recorded():
    assert not Record(os.getpid(), "another-boot/1234", "").alive()


def test_a_zombie_does_not_run():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_mark(child.pid) is None
    child.wait()


def test_a_program_that_only_lost_its_first_thread_still_runs():
    leaves = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
    child = subprocess.Popen([sys.executable, "-c", leaves + "ctypes.CDLL(None).pthread_exit(None)"])
    try:
        deadline = time.monotonic() + 10
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert start_mark(child.pid) is not None
    finally:
        child.kill()
        child.wait()


def test_what_runs_as_described_is_left_alone(supervisor):
    component = Component("sleeper", _SLEEP)
    assert supervisor.launch(component)
    pid = supervisor.find("sleeper").pid
    assert not supervisor.launch(component)
    assert supervisor.find("sleeper").pid == pid


def test_a_changed_configuration_restarts_the_component(supervisor, tmp_path):
    config = tmp_path / "config"
    config.write_text("one")
    component = Component("sleeper", _SLEEP, reads=(config,))
    supervisor.launch(component)
    config.write_text("two")
    assert supervisor.launch(component)


def test_stopping_forgets_the_process_and_may_be_repeated(supervisor):
    supervisor.launch(Component("sleeper", _SLEEP))
    assert supervisor.stop("sleeper")
    assert not supervisor.stop("sleeper")
    assert supervisor.find("sleeper") is None


def test_a_component_that_dies_is_reported_with_its_last_words(supervisor):
    argv = (sys.executable, "-c", "print('no such bucket')")
    component = Component("sleeper", argv, ready=lambda: False)
    supervisor.launch(component)
    with pytest.raises(ClusterError, match="no such bucket"):
        supervisor.await_ready(component, seconds=10)


def test_a_taken_port_is_named_before_anything_is_started(supervisor):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = ports.Address(*taken.getsockname())
        with pytest.raises(ClusterError, match=f"needs 127.0.0.1:{address.port}"):
            supervisor.launch(Component("sleeper", _SLEEP, listens=(address,)))
    assert supervisor.find("sleeper") is None
