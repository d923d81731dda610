"""Processes that start with everything in memory that their parent had imported."""

import subprocess
import sys
import time
from pathlib import Path

_PROGRAM = """
import multiprocessing, os, signal, sys
from pathlib import Path
from modelwright.runtime.train import spare

imported = "what takes seconds"
files = open(sys.argv[1])

def work(said):
    still_open = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    said.put((sys.modules["__main__"].imported, os.getppid(), sys.argv[1] in still_open, os.environ.get("LATER")))
    os.kill(os.getpid(), signal.SIGSEGV)

if __name__ == "__main__":
    spare.start()
    os.environ["LATER"] = "set"
    context = multiprocessing.get_context("forkserver")
    parents = set()
    for _ in range(2):
        said = context.SimpleQueue()
        process = context.Process(target=work, args=(said,))
        process.start()
        process.join()
        what, parent, open_file, later = said.get()
        assert (what, open_file, later, process.exitcode) == ("what takes seconds", False, None, -signal.SIGSEGV)
        parents.add(parent)
    (parent,) = parents
    assert parent != os.getpid()
    print(parent)
"""


def test_processes_are_forked_from_the_spare_which_goes_with_who_started_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    done = subprocess.run([sys.executable, program, __file__], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    # It has nobody to fork for any more.
    deadline = time.monotonic() + 10
    while _runs(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
