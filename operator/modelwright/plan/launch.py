"""What the pods of a gang are started with: torchrun or Ray, around a program of ours or of the user's."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from modelwright.api import dns
from modelwright.api.failurepolicy import PROCESS_RESTARTS, FailureClass
from modelwright.api.processes import EVERY_GPU, PATIENCE, RENDEZVOUS_PORT, agent_arguments, gpus, patience
from modelwright.api.run import PREFLIGHT_FAILED, TERMINATION_MESSAGE_FILE, Failure
from modelwright.api.variables import ADDRESS_VARIABLE, HOSTS_VARIABLE, POD_VARIABLE, STOP_ASKED, STOP_VARIABLE
from modelwright.plan.actions import Object

RAY_PORT = 6379
LOGGED = ("python", "-m", "modelwright.runtime.logs", "--")
"""In front of a command: the end of its output is kept on S3. Only our own image is sure to have that."""
_WITHOUT_END = 10 * 365 * 86400
"""Seconds for which torchrun waits for peers to join: a pod without a node may get one at any time. One that has its
node and does not start is for the operator to notice; one that runs and does not reach worker 0 ends by itself."""

_HEARD = "0.2 0.2 0.2 0.2 0.2 1 1 1 1 1 1 1"
"""Seconds between looks; Ray Train looks at its workers every two."""
_HEADLESS = 5
"""Seconds that those who save have when the head is gone. Most cannot: they wait for a peer that went with it."""

# torchrun guesses the host of the rendezvous by looking its own name up in DNS, which may not know the pod yet.
_TORCH = f"""\
if [ "$JOB_COMPLETION_INDEX" = 0 ]; then host=1; else host=0; fi
set -- --rdzv-conf="is_host=$host,join_timeout={{join}},read_timeout={{read}}" "$@"
[ -z "${ADDRESS_VARIABLE}" ] || set -- --local-addr="${ADDRESS_VARIABLE}" "$@"
"""
# Worker 0 may have no node yet, and only one that has an address is given a time to answer. That is waited for by the
# Python that torchrun is a script of, when it has imported torch: not before torchrun itself would look the name up
# (until a name is known, DNS may remember for half a minute that it is not), and at no cost to who need not wait. A
# torchrun that is no such script looks at once. This runs in images of users: no `python` need be on their path.
_WHEN_PLACED = f"""\
import os, sys
sys.path[:] = [place for place in sys.path if place]
from torch.distributed import run
import signal, socket, time
def known(name):
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False
name = os.environ["{HOSTS_VARIABLE}"].replace("{{}}", "0")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
begun = said = worked = time.monotonic()
while not known(name):
    at = time.monotonic()
    late, silent = at - worked >= {PATIENCE}, at - said >= 60
    if (late or silent) and known(name.partition(".")[2]):
        worked = at
    elif late:
        sys.exit("there is no address for worker 0 (" + name + "), nor for the Service of the gang: DNS does not work")
    if silent:
        print("waiting for the address of worker 0 (" + name + ")", file=sys.stderr, flush=True)
        said = at
    time.sleep(1 if at - begun < 60 else 5)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
sys.argv[0] = "torchrun"
sys.exit(run.main())
"""
_TORCHRUN = f"""\
if [ "$host" = 0 ]; then
  python=$(sed -n '1s/^#! *\\(.*python[^/]*\\)$/\\1/p' "$(command -v torchrun)" 2>/dev/null)
  [ -z "$python" ] || exec $python -c '{_WHEN_PLACED}' "$@"
fi
exec torchrun "$@"
"""
# With which processes start again in their pods, and have nothing to import when they do.
_OURS = ("python", "-m", "modelwright.runtime.train.torchrun")
# torchrun says that it has waited in vain, and not for whom.
_NAMES = f"--names={dns.PATIENCE}"

# A raylet gives its agents 15 s to start, and dies when a busy node takes longer (ray-project/ray#65983); the second
# time their code is in memory. Workers have 60 s, and each one that is given up leaves less of the node to the next.
# The head's daemons outlive `ray start`; the driver takes its place as the process that decides how the pod ends.
# A signal reaches this shell alone, and nothing that trains: that runs in a thread of Ray's, or in a program below it.
# So where one says that it saves when asked, it is asked by a file; only when it has left, and the driver has had the
# time to hear of that, is the rest told to go. A head that is gone hears nothing: then the gang is lost, and nobody is
# waited for long.
# Then there is nothing left for which Ray would have to keep the node for 30 s, as it does for requests to Ray Serve.
# The files are in a folder that is the pod's alone: /dev/shm outlives a container that ends, and may be the node's.
LEAVING = f"""\
python=$(command -v python || command -v python3)
export RAY_worker_register_timeout_seconds={PATIENCE}
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="${{RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S:-0}}"
marks="/dev/shm/modelwright-${POD_VARIABLE}"
export {STOP_VARIABLE}="${{{STOP_VARIABLE}:-$marks/stop}}"
rm -rf "${STOP_VARIABLE}"; mkdir -p "${STOP_VARIABLE}"
saving() {{
  for file in "${STOP_VARIABLE}"/[0-9]*; do kill -0 "${{file##*/}}" 2>/dev/null && return 0; done
  return 1
}}
nap() {{
  sleep "$1" 2>/dev/null || sleep 1
}}
leave() {{
  saving || {{ kill -TERM "$child"; return; }}
  : > "${STOP_VARIABLE}/{STOP_ASKED}"
  (
    looks=0 gone=0
    while saving; do
      nap 0.2
      looks=$((looks + 1))
      [ $((looks % 5)) = 0 ] || continue
      if reached; then gone=0; else gone=$((gone + 1)); fi
      [ "$gone" -lt {_HEADLESS} ] || break
    done
    for wait in {_HEARD}; do reached || break; nap "$wait"; done
    kill -TERM "$child" 2>/dev/null
  ) &
}}
reached() {{
  "$python" -c "import socket, sys; socket.create_connection((sys.argv[1], {RAY_PORT}), 2)" "$head" 2>/dev/null
}}
run() {{
  "$@" & child=$!
  trap leave TERM
  wait "$child"; code=$?
  while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
  exit "$code"
}}
"""
"""For a shell around Ray, with `head` set: `run` starts a program, ends as it does, and passes SIGTERM on in time.

`marks` is the pod's folder.
"""
_UNREACHED = Failure(
    reason=PREFLIGHT_FAILED,
    message="%s",
    retryable=True,
    failure_class=FailureClass.INFRASTRUCTURE,
    # Nobody can tell which of the two nodes it is.
    node="",
).model_dump_json(by_alias=True, exclude_none=True)
# As torchrun is waited for: only a worker 0 that has an address, and so a node, is given a time to answer. The clock is
# one that nobody sets, and no program.
_REACHING = f"""\
clock() {{ read -r now rest < /proc/uptime; now="${{now%.*}}"; }}
known() {{ "$python" -c "import socket, sys; socket.getaddrinfo(sys.argv[1], None)" "$1" 2>/dev/null; }}
clock; said="$now" placed="$now"
until reached; do
  sleep 1
  clock
  [ $((now - said)) -ge 60 ] || continue
  said="$now"
  if known "$head"; then
    why="worker 0 ($head) does not answer on port {RAY_PORT}; a NetworkPolicy or a firewall may block it"
  elif known "${{head#*.}}"; then
    why="worker 0 ($head) has no address yet"
    placed="$now"
  else
    why="there is no address for worker 0 ($head), nor for the Service of the gang: DNS does not work"
  fi
  if [ $((now - placed)) -ge "$patience" ]; then
    printf {shlex.quote(_UNREACHED)} "$why" > {TERMINATION_MESSAGE_FILE}
    echo "$why" >&2
    exit 1
  fi
  echo "waiting: $why" >&2
done
"""
_RAY = f"""\
head="$1" patience="$2"; shift 2
{LEAVING}\
[ -n "$python" ] || {{ echo "there is no python on the PATH, nor python3" >&2; exit 1; }}
# Until there is somebody to pass it on to, and this shell may be the first process of its container.
trap 'exit 143' TERM
if [ "$JOB_COMPLETION_INDEX" = 0 ]; then
  start="ray start --head --port={RAY_PORT} --include-dashboard=false --disable-usage-stats"
  $start || {{ ray stop --force; $start; }} || exit 1
  run "$@"
fi
{_REACHING}\
run ray start --address="$head:{RAY_PORT}" --block
"""


@dataclass(frozen=True)
class Program:
    """What runs once the pods know each other."""

    module: str
    """A module of ours; unused where the user brings a command."""
    command: tuple[str, ...] = ()
    """The user's own program with its arguments."""

    def argv(self) -> tuple[str, ...]:
        """Return the program as one process of its own."""
        return self.command or ("python", "-m", self.module)


def torch_command(
    program: Program,
    *,
    job: str,
    service: str,
    replicas: int,
    run_id: str,
    processes: str,
    preflight: bool,
    startup_seconds: int,
    restarts: int | None = None,
) -> list[str]:
    """Return the container command of every pod of a PyTorch gang, with so many `processes` in each, or `gpu`.

    Our own module as the only process of a gang needs no launcher. `preflight` is for our own module too.
    `startup_seconds`: how long a pod that has its node may take to start. `restarts`: how often the processes of an
    attempt may start again, where the spec says so.
    """
    if replicas == 1 and processes == "1" and not program.command:
        return list(program.argv())
    launcher, target = (("torchrun",), ("--no-python", "--", *program.command)) if program.command else (_OURS, ())
    if restarts is None:
        restarts = 0 if program.command else PROCESS_RESTARTS
    meet_at = "localhost:0" if replicas == 1 else f"{job}-0.{service}:{RENDEZVOUS_PORT}"
    shared = agent_arguments(agents=replicas, processes=processes, restarts=restarts, meet_at=meet_at, gang=run_id)
    arguments = (*shared, *target)
    if replicas == 1:
        return [*launcher, *arguments]
    last = f'exec {" ".join((*_OURS, _NAMES) if preflight else _OURS)} "$@"\n'
    script = _TORCH.format(join=_WITHOUT_END, read=patience(startup_seconds))
    return ["sh", "-c", script + (_TORCHRUN if program.command else last), "torchrun", *arguments]


def ray_command(program: Program, *, job: str, service: str, startup_seconds: int) -> list[str]:
    """Return the container command of every pod of a Ray gang: index 0 is head and driver, the others serve it.

    `startup_seconds`: as for torchrun.
    """
    return ["sh", "-c", _RAY, "ray", f"{job}-0.{service}", str(patience(startup_seconds)), *program.argv()]


def processes(asked: int | str | None, resources: Object) -> str:
    """Return how many processes torchrun starts in a pod: as asked, or one for each GPU of the container, or 1.

    A claim (DRA) names a device, but not how many GPUs that is: torchrun counts what it sees.
    """
    if asked is not None:
        return str(asked)
    if count := gpus(resources.get("limits") or {}):
        return str(count)
    return EVERY_GPU if resources.get("claims") else "1"


def program(module: str, command: Sequence[str] = (), args: Sequence[str] = ()) -> Program:
    """Return the user's program where there is one, and ours where not."""
    return Program(module, (*command, *args) if command else ())
