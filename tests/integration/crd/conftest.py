"""An API server that knows the four kinds, and the one verb that these tests need."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from modelwright.api.kinds import KINDS
from modelwright.api.schema import GROUP, VERSION
from tests.integration.crd import rules
from tests.integration.plane import Plane

_NAMESPACE = "default"
_PLURALS = {kind.kind: kind.plural for kind in KINDS}


@dataclass(frozen=True)
class Cause:
    """One thing that the API server did not like."""

    field: str
    message: str


class RefusedError(Exception):
    """The API server did not take a manifest."""

    def __init__(self, status: dict[str, Any]) -> None:
        super().__init__(status["message"])
        causes = status.get("details", {}).get("causes", ())
        self.causes = [Cause(cause.get("field", ""), cause["message"]) for cause in causes]


class Api:
    """Creates and changes objects as a user with strict field validation does."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._client = config.new_client_from_config(str(kubeconfig))
        self._objects = client.CustomObjectsApi(self._client)

    def close(self) -> None:
        self._client.close()

    def create(self, manifest: dict[str, Any], *, dry_run: bool = True) -> dict[str, Any]:
        """Create an object, or only ask what would happen. Raises RefusedError."""
        options: dict[str, Any] = {"field_validation": "Strict"} | ({"dry_run": "All"} if dry_run else {})
        plural = _PLURALS[manifest["kind"]]
        try:
            return self._objects.create_namespaced_custom_object(
                GROUP, VERSION, _NAMESPACE, plural, manifest, **options
            )
        except client.ApiException as error:
            raise RefusedError(json.loads(error.body)) from None

    def change(self, kind: str, spec: dict[str, Any]) -> None:
        """Ask what would happen if this were merged into the spec of the kind's example. Raises RefusedError."""
        name = rules.example(kind)["metadata"]["name"]
        try:
            self._objects.patch_namespaced_custom_object(
                GROUP, VERSION, _NAMESPACE, _PLURALS[kind], name, {"spec": spec}, dry_run="All"
            )
        except client.ApiException as error:
            raise RefusedError(json.loads(error.body)) from None

    def write_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        """Write the status of an object."""
        self._objects.patch_namespaced_custom_object_status(
            GROUP, VERSION, _NAMESPACE, _PLURALS[kind], name, {"status": status}
        )


@pytest.fixture(scope="session")
def api(plane: Plane) -> Iterator[Api]:
    """An API server with our definitions and, of every kind, the example."""
    server = Api(plane.kubeconfig)
    for kind in rules.BASE:
        _create_when_served(server, rules.example(kind))
    yield server
    server.close()


def _create_when_served(server: Api, manifest: dict[str, Any]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            server.create(manifest, dry_run=False)
        except RefusedError:
            # Established comes a moment before the path is served.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
