"""Programs that run beside a test."""

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
