"""A gang on this machine, without Kubernetes: one agent for each pod, its processes, and their reports."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from e2e.cluster import ports
from e2e.support import programs
from e2e.support.programs import Running
from modelwright.api.run import REPORT_URL_VARIABLE, RUN_VARIABLE, Failure, Run, TrainingReport
from modelwright.runtime import failure
from modelwright.runtime.train import torchrun

_LEAVE_SECONDS = 30
_LOOP = ("sh", "-c", 'until "$@"; do sleep 1; done', "sh")
MESSAGE_FILE = "TEST_TERMINATION_MESSAGE_FILE"
_AGENT = "import sys; from e2e.support.agents import launch; launch(sys.argv[1:])"
_PLAIN = "from e2e.support.agents import work; work()"


def work() -> None:
    """Be a process of a recipe's gang that leaves what it has to say where the test looks for it."""
    setattr(failure, "TERMINATION_MESSAGE_FILE", os.environ[MESSAGE_FILE])  # noqa: B010 (imported there, not defined)
    torchrun.work()


def launch(arguments: Sequence[str], *, finds_others: bool = True) -> None:
    """Be the agent of a pod; `finds_others` as torchrun of recipes has it."""
    setattr(failure, "TERMINATION_MESSAGE_FILE", os.environ[MESSAGE_FILE])  # noqa: B010 (imported there, not defined)
    torchrun.launch(arguments, work, finds_others=finds_others)


Start = Callable[[Sequence[str], Mapping[str, str], Path], Running]


def as_program(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Running:
    """Start an agent as a pod does."""
    return programs.start([sys.executable, "-c", _AGENT, *arguments], env, log)


@dataclass
class LocalGang:
    """The agents of a gang in the order of their pods, and what rank 0 has told, with the monotonic time of each."""

    folder: Path
    agents: list[Running] = field(default_factory=list)
    reports: list[tuple[float, TrainingReport]] = field(default_factory=list)

    def workers(self) -> dict[int, int]:
        """Return the process of each rank."""
        found: dict[int, int] = {}
        for agent in self.agents:
            for child in _below(agent.pid):
                name = _name(child)
                if name.startswith("rank-"):
                    found[int(name.removeprefix("rank-"))] = child
        return found

    def lose(self, index: int) -> None:
        """Kill all processes of a pod."""
        agent = self.agents[index]
        # The parents first: a loop would start what is killed below it again.
        for pid in [agent.pid, *_below(agent.pid)]:
            _kill(pid)
        agent.wait(_LEAVE_SECONDS)

    def failure(self, index: int) -> Failure | None:
        """Return what a pod has left as its termination message."""
        path = self.folder / f"message-{index}"
        text = path.read_text() if path.exists() else ""
        return Failure.model_validate_json(text) if text else None

    def wait(self, wanted: Callable[[TrainingReport], bool], seconds: float = 180) -> tuple[float, TrainingReport]:
        """Return the first report that is wanted and the time when it came."""
        deadline, seen = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            while seen < len(self.reports):
                when, report = self.reports[seen]
                if wanted(report):
                    return when, report
                seen += 1
            ended = [agent.poll() for agent in self.agents]
            if None not in ended:
                raise RuntimeError(f"all agents have ended: {ended}")
            time.sleep(0.05)
        raise TimeoutError("no such report")

    def codes(self, seconds: float = 180) -> list[int]:
        """Return the exit codes of all agents, once they have ended."""
        deadline = time.monotonic() + seconds
        return [agent.wait(max(0.1, deadline - time.monotonic())) for agent in self.agents]


def environment(run: Run, env: Mapping[str, str], url: str) -> dict[str, str]:
    """Return what the pods of a gang are told, beside `env`; `url` is where reports go."""
    told = {RUN_VARIABLE: run.model_dump_json(by_alias=True), REPORT_URL_VARIABLE: url}
    return {**os.environ, **env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **told}


@contextmanager
def local_gang(
    run: Run,
    folder: Path,
    env: Mapping[str, str],
    *,
    restarts: int,
    plain: bool = False,
    pods: int = 2,
    processes: int = 1,
    start: Start = as_program,
) -> Iterator[LocalGang]:
    """Start the agents of a gang by `start`; in the end all of its processes are killed.

    `plain`: torchrun itself, started anew by a loop of the shell whenever it fails.
    """
    gang = LocalGang(folder)
    script = folder / "worker.py"
    script.write_text(_PLAIN)
    (port,) = ports.free(1)
    with listening(gang.reports) as url:
        shared = environment(run, env, url)
        try:
            for index in range(pods):
                arguments = [f"--rdzv-conf=is_host={int(index == 0)},join_timeout=120", f"--nnodes={pods}"]
                arguments += [f"--nproc-per-node={processes}", f"--max-restarts={restarts}", "--rdzv-backend=c10d"]
                arguments += [f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1", "--rdzv-id=a"]
                own = {**shared, MESSAGE_FILE: str(folder / f"message-{index}")}
                log = folder / f"log-{index}"
                if plain:
                    torchrun_itself = [*_LOOP, sys.executable, "-m", "torch.distributed.run", *arguments, str(script)]
                    agent = programs.start(torchrun_itself, own, log)
                else:
                    agent = start(arguments, own, log)
                gang.agents.append(agent)
            yield gang
        finally:
            for index in range(len(gang.agents)):
                gang.lose(index)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _below(pid: int) -> list[int]:
    """Return the processes below one, parents before their children."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        found = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [*found, *(other for child in found for other in _below(child))]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@contextmanager
def listening(reports: list[tuple[float, TrainingReport]]) -> Iterator[str]:
    """Take reports as the operator does."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reports.append((time.monotonic(), TrainingReport.model_validate(body)))
            self.send_response(204)
            self.end_headers()

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Say nothing: a report a second is no news."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/report"
    finally:
        server.shutdown()
        server.server_close()
