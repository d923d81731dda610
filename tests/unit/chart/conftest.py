"""Helm, as a user runs it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.standalone import find

CHART = Path(__file__).parents[3] / "charts/modelwright"
NAMESPACE = "platform"


class HelmError(Exception):
    """Helm refused; the message is what it said."""


class Helm:
    """Runs helm on the chart of this repository."""

    def __init__(self, program: Path, home: Path) -> None:
        self._program = program
        # Without a cluster and without the user's own configuration.
        self._environment = {"HOME": str(home), "KUBECONFIG": str(home / "none"), "PATH": "/usr/bin:/bin"}

    def run(self, *words: str, values: dict[str, Any] | None = None) -> str:
        """Return what helm prints. Raises HelmError."""
        command = [str(self._program), *words, *(("--values=-",) if values is not None else ())]
        done = subprocess.run(
            command, input=json.dumps(values or {}), capture_output=True, text=True, env=self._environment, check=False
        )
        if done.returncode != 0:
            raise HelmError(done.stderr)
        return done.stdout

    def template(self, release: str = "modelwright", **values: Any) -> list[dict[str, Any]]:
        """Return the objects that an installation with these values makes. Raises HelmError.

        The definitions are left out unless they are asked for: they are most of the text and the same in every test.
        """
        values = {"crds": {"enabled": False}, **values}
        text = self.run("template", release, str(CHART), f"--namespace={NAMESPACE}", values=values)
        return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]

    def one(self, kind: str, name: str | None = None, **values: Any) -> dict[str, Any]:
        """Return the only object of a kind, or the one with a name."""
        (found,) = (
            document
            for document in self.template(**values)
            if document["kind"] == kind and name in (None, document["metadata"]["name"])
        )
        return found

    def notes(self, **values: Any) -> str:
        """Return what is printed after an installation."""
        words = ("install", "modelwright", str(CHART), f"--namespace={NAMESPACE}", "--dry-run=client")
        return self.run(*words, values=values).partition("\nNOTES:\n")[2]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(find("helm"), tmp_path_factory.mktemp("helm"))
