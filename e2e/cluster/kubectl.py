"""kubectl, bound to one cluster."""

import json
import subprocess
from pathlib import Path
from typing import Any

from e2e.cluster import binaries, shell


class Kubectl:
    """Commands against one kubeconfig, and one context of it."""

    def __init__(self, kubeconfig: Path, context: str | None = None, *, kubectl: Path | None = None) -> None:
        chosen = [f"--context={context}"] if context else []
        self.command = (str(kubectl or binaries.path("kubectl")), f"--kubeconfig={kubeconfig}", *chosen)

    def run(self, *words: str, text: str | None = None) -> str:
        """Run a command and return what it printed."""
        return shell.run([*self.command, *words], text=text)

    def attempt(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        return shell.attempt([*self.command, *words], text=text)

    def get(self, *words: str) -> dict[str, Any]:
        """Fetch an object or a list."""
        found: dict[str, Any] = json.loads(self.run("get", *words, "--output=json"))
        return found

    def apply(self, manifests: list[dict[str, Any]]) -> None:
        """Apply objects on the server's side, which makes doing it again harmless."""
        items = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.run("apply", "--server-side", "--force-conflicts", "--filename=-", text=json.dumps(items))
