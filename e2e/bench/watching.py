"""All that happens in a namespace while a benchmark runs there: every state of its objects, every line of its pods.

Two streams for the objects and one for each pod: nothing is asked for again and again, because whatever this costs is
taken from the cores that are measured.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from e2e.bench.steps import Line
from e2e.cluster.kubectl import Kubectl
from e2e.support.resources import Object

T = TypeVar("T")

_PATHS = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "TrainingJob": "/apis/modelwright.dev/v1alpha1/namespaces/{}/trainingjobs",
}
_AGAIN_SECONDS = 0.3
_CONNECT_SECONDS = 2.0


@dataclass(frozen=True)
class State:
    """One state of an object."""

    at: float
    """By the wall clock, when this process heard of it."""
    object: Object


class Watch:
    """Everything that was heard of a namespace since the watch was opened. Use it as a context manager."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self._states: dict[str, list[State]] = {kind: [] for kind in _PATHS}
        self._lines: list[Line] = []
        self._news = threading.Condition()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self._followed: set[str] = set()
        self._closing = False

    def __enter__(self) -> Self:
        for kind in _PATHS:
            self._start(self._follow_objects, kind)
        # What happens before the streams are connected would be heard of too late.
        time.sleep(_CONNECT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._closing = True
            for process in self._processes.values():
                process.terminate()
        for thread in self._threads:
            thread.join()

    def states(self, kind: str) -> tuple[State, ...]:
        """Return the states of all objects of a kind, in the order in which they were heard of."""
        with self._news:
            return tuple(self._states[kind])

    def lines(self) -> tuple[Line, ...]:
        """Return what the pods have printed."""
        with self._news:
            return tuple(self._lines)

    def wait(self, found: Callable[[], T | None], seconds: float) -> T | None:
        """Return what is found as soon as it is; None when it is not found in time."""
        deadline = time.monotonic() + seconds
        while (value := found()) is None and (left := deadline - time.monotonic()) > 0:
            with self._news:
                self._news.wait(min(left, _AGAIN_SECONDS))
        return value

    def _start(self, work: Callable[[str], None], name: str) -> None:
        thread = threading.Thread(target=work, args=(name,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _open(self, name: str, *words: str) -> "subprocess.Popen[str] | None":
        with self._news:
            if self._closing:
                return None
            process = self._processes[name] = subprocess.Popen(
                [*self._kubectl.command, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            return process

    def _follow_objects(self, kind: str) -> None:
        path = _PATHS[kind].format(self._namespace)
        while (process := self._open(kind, "get", "--raw", f"{path}?watch=true&resourceVersion=0")) is not None:
            with process:
                for line in process.stdout or ():
                    self._note(kind, json.loads(line))
            # The server ends every watch after a while; the next one begins with what is there.
            time.sleep(_AGAIN_SECONDS)

    def _note(self, kind: str, event: Object) -> None:
        if event["type"] not in ("ADDED", "MODIFIED"):
            return
        found = event["object"]
        with self._news:
            self._states[kind].append(State(time.time(), found))
            self._news.notify_all()
        uid = found["metadata"]["uid"]
        if kind == "Pod" and uid not in self._followed and began(found):
            self._followed.add(uid)
            self._start(self._follow_log, found["metadata"]["name"])

    def _follow_log(self, pod: str) -> None:
        words = ("logs", pod, f"--namespace={self._namespace}", "--follow", "--timestamps")
        while (process := self._open(pod, *words)) is not None:
            read = 0
            with process:
                for text in process.stdout or ():
                    read += 1
                    self._print(pod, text)
            if read or process.returncode == 0 or self._is_gone(pod):
                return
            time.sleep(_AGAIN_SECONDS)

    def _print(self, pod: str, text: str) -> None:
        line = line_of(pod, text)
        if line is not None:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()

    def _is_gone(self, pod: str) -> bool:
        return self._kubectl.attempt("get", "pod", pod, f"--namespace={self._namespace}").returncode != 0


def began(pod: Object) -> bool:
    """Tell whether the container of a pod has run."""
    entries = pod["status"].get("containerStatuses") or ()
    return any({"running", "terminated"} & entry.get("state", {}).keys() for entry in entries)


def line_of(pod: str, text: str) -> Line | None:
    """Return a line of a log that the node has stamped; None for what is not one."""
    stamp, _, rest = text.rstrip("\n").partition(" ")
    try:
        return Line(datetime.fromisoformat(stamp).timestamp(), pod, rest)
    except ValueError:
        return None
