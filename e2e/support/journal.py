"""What became of the resources of a namespace: every state that the API server told, in order.

A scenario that polls sees where an object stands; one that reads the journal also sees what it went through, and
waiting costs no requests.
"""

import json
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Self

from e2e.cluster.kubectl import Kubectl
from e2e.support.resources import Object, Resources, WaitedInVainError, is_stalled, reason

_API = "/apis/modelwright.dev/v1alpha1/namespaces"
PLURALS = ("trainingjobs", "tuningsweeps", "modeldeployments", "driftpolicies")


@dataclass(frozen=True)
class Entry:
    """One state of an object, or its end."""

    object: Object
    deleted: bool
    at: float
    """On the monotonic clock, when this process heard of it."""

    @property
    def version(self) -> int:
        """What grows with every write."""
        return int(self.object["metadata"]["resourceVersion"])


class Journal:
    """The states of our objects in one namespace. Use it as a context manager."""

    def __init__(self, kubectl: Kubectl, namespace: str, check: Callable[[Object], Iterable[str]]) -> None:
        self.complaints: list[str] = []
        """What `check` found wrong with any status that was written for the spec beside it."""
        self._check = check
        self._resources = Resources(kubectl, namespace)
        self._entries: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
        self._news = threading.Condition()
        self._watches: dict[str, subprocess.Popen[str]] = {}
        self._closing = False
        self._threads = [threading.Thread(target=self._follow, args=(plural,), daemon=True) for plural in PLURALS]

    @classmethod
    def of(cls, kubectl: Kubectl, namespace: str, plural: str, record: Iterable[Object]) -> Self:
        """Return a journal that holds what another one recorded, and to which nothing is added."""
        journal = cls(kubectl, namespace, lambda _: ())
        for each in record:
            entry = Entry(**each)
            journal._entries[plural, entry.object["metadata"]["name"]].append(entry)
        return journal

    def record(self, plural: str, name: str) -> list[Object]:
        """Return all entries of an object, as JSON; their times are those of this machine."""
        return [asdict(entry) for entry in self.entries(plural, name)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._news:
            self._closing = True
            for process in self._watches.values():
                process.terminate()
        for thread in self._threads:
            thread.join()

    def entries(self, plural: str, name: str) -> tuple[Entry, ...]:
        """Return everything that was heard of an object, oldest first."""
        with self._news:
            return tuple(self._entries[plural, name])

    def reasons(self, plural: str, name: str) -> list[str]:
        """Return the words that the STATUS column went through; the same one twice in a row is told once."""
        told = [reason(entry.object) for entry in self.entries(plural, name)]
        return [word for index, word in enumerate(told) if word and (index == 0 or told[index - 1] != word)]

    def writes(self, since: float) -> list[str]:
        """Return what was written after a moment of the monotonic clock: `trainingjobs/a`, once for each write."""
        with self._news:
            return [
                f"{plural}/{name}"
                for (plural, name), entries in self._entries.items()
                for entry in entries
                if entry.at > since
            ]

    def wait(
        self,
        plural: str,
        name: str,
        until: Callable[[Object], bool],
        *,
        timeout: float,
        stop: Callable[[Object], bool] = is_stalled,
    ) -> Object:
        """Return the first state that satisfies a predicate, from the present one on; none is skipped.

        Raises WaitedInVainError after `timeout` seconds, or at once when `stop` says that waiting is pointless.
        """
        deadline = time.monotonic() + timeout
        position = max(len(self.entries(plural, name)) - 1, 0)
        while True:
            for entry in self._after(plural, name, position, deadline):
                position += 1
                if not entry.deleted and until(entry.object):
                    return entry.object
                if entry.deleted or stop(entry.object):
                    raise WaitedInVainError(self._autopsy(plural, name))
            if time.monotonic() >= deadline:
                raise WaitedInVainError(self._autopsy(plural, name))

    def wait_gone(self, plural: str, name: str, *, timeout: float) -> None:
        """Return when an object is gone. Raises WaitedInVainError."""
        with self._news:
            gone = self._news.wait_for(
                lambda: bool(self._entries[plural, name]) and self._entries[plural, name][-1].deleted, timeout
            )
        if not gone:
            raise WaitedInVainError(self._autopsy(plural, name))

    def _after(self, plural: str, name: str, position: int, deadline: float) -> list[Entry]:
        with self._news:
            entries = self._entries[plural, name]
            self._news.wait_for(lambda: len(entries) > position, max(0.0, deadline - time.monotonic()))
            return entries[position:]

    def _follow(self, plural: str) -> None:
        # From version 0: whatever the API server's cache holds. A cache to which nothing happens does not catch up with
        # an older etcd, and a watch from "now" would be refused every few seconds.
        path = f"{_API}/{self._resources.namespace}/{plural}?watch=true&resourceVersion=0"
        command = [*self._resources.kubectl.command, "get", "--raw", path]
        while True:
            with self._news:
                if self._closing:
                    return
                process = self._watches[plural] = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            with process:
                for line in process.stdout or ():
                    self._note(plural, json.loads(line))
            # The server ends every watch after a while; the next one begins with what is there.
            time.sleep(0.5)

    def _note(self, plural: str, event: Object) -> None:
        found = event["object"]
        if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
            return
        entry = Entry(found, event["type"] == "DELETED", time.monotonic())
        with self._news:
            known = self._entries[plural, found["metadata"]["name"]]
            if known and known[-1].version >= entry.version:
                return
            known.append(entry)
            if _is_current(found):
                self.complaints.extend(_signed(entry, self._check(found)))
            self._news.notify_all()

    def _autopsy(self, plural: str, name: str) -> str:
        return f"went through {self.reasons(plural, name)}\n{self._resources.autopsy(plural, name)}"


def _is_current(found: Object) -> bool:
    return bool(found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"])


def _signed(entry: Entry, found: Iterable[str]) -> list[str]:
    who = f"{entry.object['kind']} {entry.object['metadata']['name']}"
    return [f"{who} ({reason(entry.object)}): {sentence}" for sentence in found]
