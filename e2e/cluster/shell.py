"""Running other programs, and saying what they said when they fail."""

import contextlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from e2e.cluster.errors import ClusterError

T = TypeVar("T")

LINES_SHOWN = 20
_TRIES = 3


def run(
    argv: Sequence[str | Path],
    *,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end and return what it printed; a failure carries its last words."""
    done = attempt(argv, text=text, environment=environment, cwd=cwd)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-LINES_SHOWN:]
        command = " ".join(str(word) for word in argv)
        raise ClusterError(f"`{command}` failed with exit code {done.returncode}:\n" + "\n".join(said))
    return done.stdout


def attempt(
    argv: Sequence[str | Path],
    *,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program whose failure is an answer."""
    try:
        return subprocess.run(argv, input=text, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        raise ClusterError(f"`{argv[0]}` is not installed or not on PATH") from missing


def stream(argv: Sequence[str | Path], log: Path, *, environment: Mapping[str, str] | None = None) -> None:
    """Run a long program with its output in a log; a failure shows the log's end and where it is."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as sink:
        code = subprocess.run(argv, env=environment, stdout=sink, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        command = " ".join(str(word) for word in argv[:3])
        raise ClusterError(f"`{command} …` failed with exit code {code}; the end of {log}:\n{tail(log)}")


def persistently(fetch: Callable[[], T]) -> T:
    """Do what fetches hundreds of files, again where it fails: Go asks once for each, and keeps those that it has."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(ClusterError):
            return fetch()
    return fetch()


def tail(log: Path, lines: int = LINES_SHOWN) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
