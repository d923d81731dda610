"""The operator as a process of its own, as the chart runs it, for benchmarks and integration tests."""

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster import ports
from e2e.support import programs
from e2e.support.programs import Running

_ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ("-m", "modelwright.kube")
Start = Callable[[Mapping[str, str], Path], Running]
_START_SECONDS = 60.0
_WRITES = ("apply", "patch", "delete")


def as_program(env: Mapping[str, str], log: Path) -> Running:
    """Start the operator as its pod does; it goes when the thread that started it goes."""
    command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, *PROGRAM]
    return programs.start(command, env, log, _ROOT)


class Operator:
    """One replica on loopback."""

    def __init__(
        self,
        kubeconfig: Path,
        log: Path,
        name: str = "operator-0",
        environment: Mapping[str, str] | None = None,
        begin: Start = as_program,
    ) -> None:
        self.log = log
        self._begin = begin
        self.port = ports.free(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: Running | None = None
        # A pod has no other variables of ours; a developer's shell may.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MODELWRIGHT_")}
        self._environment = {
            **inherited,
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(_ROOT / "operator"),
            "MODELWRIGHT_RUNTIME_IMAGE": "registry.example.com/runtime:test",
            "MODELWRIGHT_SERVER_IMAGE": "registry.example.com/server:test",
            "MODELWRIGHT_STORAGE_URI": "s3://models/test",
            "MODELWRIGHT_POD_NAME": name,
            "MODELWRIGHT_HTTP_HOST": "127.0.0.1",
            "MODELWRIGHT_HTTP_PORT": str(self.port),
            "MODELWRIGHT_LOG_FORMAT": "text",
            **(environment or {}),
        }

    @property
    def pid(self) -> int:
        """Of the process that runs or ran last."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process."""
        self._process = self._begin(self._environment, self.log)

    def await_leading(self, seconds: float = _START_SECONDS) -> None:
        """Return once it has seen the whole cluster and reconciles. Raises TimeoutError."""
        self.wait_until(lambda: self.metric("modelwright_is_leader") == 1 and self.get("/readyz")[0] == 200, seconds)

    def wait_until(self, condition: Callable[[], bool], seconds: float = _START_SECONDS) -> None:
        """Wait for something that may fail while the process starts. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not _holds(condition):
            if time.monotonic() > deadline or self.exit_code() is not None:
                raise TimeoutError(f"the operator did not get there:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)

    def exit_code(self) -> int | None:
        """Return the exit code of a process that has ended."""
        return None if self._process is None else self._process.poll()

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Send a signal, wait, and return the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End the process in whatever state it is."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def pause(self) -> None:
        """Stop the process without ending it, as a starved node would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a GET. Raises OSError when nobody listens."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:  # noqa: S310 (our own address)
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """Return every sample, summed over its labels, and `name{a="b"}` for each one with labels."""
        samples: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
                samples[sample.name] = samples.get(sample.name, 0.0) + sample.value
                if labels:
                    samples[f"{sample.name}{{{labels}}}"] = sample.value
        return samples

    def metric(self, name: str) -> float:
        """Return one sample; 0 when it is not there yet."""
        return self.metrics().get(name, 0.0)

    def writes(self) -> float:
        """Return how many objects it has tried to change, the Lease and events aside."""
        found = self.metrics()
        calls = {name: count for name, count in found.items() if name.startswith("modelwright_api_calls_total{")}
        return sum(count for name, count in calls.items() if any(f'verb="{verb}"' in name for verb in _WRITES))


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except OSError:
        return False
