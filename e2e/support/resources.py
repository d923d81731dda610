"""Resources of a namespace as a test sees them: apply, look, wait, and say what is wrong when waiting was in vain."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.kubectl import Kubectl

Object = dict[str, Any]
_POLL_SECONDS = 0.5


class WaitedInVainError(AssertionError):
    """Something that should have happened did not; the message holds the object and its events."""


def condition(found: Object, kind: str) -> Object:
    """Return a condition by its type; an empty one when it is not there."""
    entries = found.get("status", {}).get("conditions", [])
    return next((entry for entry in entries if entry["type"] == kind), {})


def reason(found: Object) -> str:
    """Return what the STATUS column prints."""
    return str(condition(found, "Ready").get("reason", ""))


def is_ready(found: Object) -> bool:
    """Tell whether an object is as its spec wants it, for the generation that it has now."""
    ready = condition(found, "Ready")
    return ready.get("status") == "True" and ready.get("observedGeneration") == found["metadata"].get("generation")


def is_stalled(found: Object) -> bool:
    """Tell whether an object says that it will not get further by itself."""
    return condition(found, "Stalled").get("status") == "True"


def manifest(path: Path, replacements: Mapping[str, str]) -> list[Object]:
    """Return the objects of a YAML file in which some strings are replaced."""
    text = path.read_text()
    for old, new in replacements.items():
        text = text.replace(old, new)
    return [document for document in yaml.safe_load_all(text) if document]


class Resources:
    """The objects of one namespace."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace

    def apply(self, *objects: Object) -> None:
        """Apply objects into the namespace."""
        self.kubectl.apply(
            [{**entry, "metadata": {"namespace": self.namespace, **entry["metadata"]}} for entry in objects]
        )

    def find(self, kind: str, name: str) -> Object | None:
        """Return an object, or None when there is none."""
        answer = self.kubectl.attempt(
            "get", kind, name, f"--namespace={self.namespace}", "--output=json", "--ignore-not-found"
        )
        return json.loads(answer.stdout) if answer.returncode == 0 and answer.stdout.strip() else None

    def list(self, kind: str, selector: str = "") -> list[Object]:
        """Return the objects of a kind."""
        words = ["get", kind, f"--namespace={self.namespace}", "--output=json", f"--selector={selector}"]
        return list(json.loads(self.kubectl.run(*words))["items"])

    def patch(self, kind: str, name: str, body: Object) -> None:
        """Merge a patch into an object."""
        self.kubectl.run(
            "patch", kind, name, f"--namespace={self.namespace}", "--type=merge", f"--patch={json.dumps(body)}"
        )

    def delete(self, kind: str, name: str, *flags: str) -> None:
        """Delete an object if it is there."""
        self.kubectl.run("delete", kind, name, f"--namespace={self.namespace}", "--ignore-not-found", *flags)

    def wait(
        self,
        kind: str,
        name: str,
        until: Callable[[Object], bool],
        *,
        timeout: float,
        seen: Callable[[Object], None] = lambda _: None,
        stop: Callable[[Object], bool] = is_stalled,
    ) -> Object:
        """Wait until an object satisfies a predicate and return it; `seen` gets every state on the way.

        Raises WaitedInVainError after `timeout` seconds, or at once when `stop` says that waiting is pointless.
        """
        deadline = time.monotonic() + timeout
        found: Object | None = None
        while time.monotonic() < deadline:
            found = self.find(kind, name)
            if found is not None:
                seen(found)
                if until(found):
                    return found
                if stop(found):
                    break
            time.sleep(_POLL_SECONDS)
        raise WaitedInVainError(self.autopsy(kind, name))

    def autopsy(self, kind: str, name: str) -> str:
        """Return what a person would look at first: the object with its events, and the pods."""
        scope = f"--namespace={self.namespace}"
        described = self.kubectl.attempt("describe", kind, name, scope).stdout
        pods = self.kubectl.attempt("get", "pods", scope, "--output=wide").stdout
        return f"{kind} {self.namespace}/{name} did not get there.\n{described}\n{pods}"
