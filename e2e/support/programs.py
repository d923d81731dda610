"""Programs that run beside a test."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Running(Protocol):
    """A process, in the words of `subprocess.Popen`."""

    @property
    def pid(self) -> int:
        """The id of the process."""

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, once there is one."""

    def send_signal(self, sig: int) -> None:
        """Send a signal."""


def start(command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path | None = None) -> Running:
    """Start a program with these variables alone; what it prints is appended to a file."""
    with log.open("ab") as file:
        return subprocess.Popen(command, env=env, stdout=file, stderr=file, cwd=cwd)
