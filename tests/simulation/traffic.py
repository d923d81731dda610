"""Requests to what serves: what servers count of them, and what training leaves to compare that with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelwright.api.layout import manifest_key, version_prefix, window_key
from modelwright.plan.times import stamp
from modelwright.registry.versions import list_versions
from tests.simulation.deployments import Servers, is_ready, selected
from tests.simulation.world import NAMESPACE, World

EVERY = timedelta(seconds=30)
"""How long servers count before they write."""
KEPT = timedelta(minutes=10)
STILL, MOVED = (150, 150, 150, 150), (420, 60, 60, 60)
"""Requests in the bins of their one column, in one window of one server."""


@dataclass
class Traffic:
    """The world that a model is asked about, by one ModelDeployment of one model."""

    world: World
    servers: Servers
    deployment: str
    model: str
    present: Sequence[int] = STILL
    """How the world is now: what is trained now learns it, what is asked now looks like it."""
    _last: datetime | None = None
    _written: list[tuple[datetime, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take a place in the world, behind those who register versions."""
        self.world.controllers.append(self)

    def step(self) -> None:
        """Describe the data of new versions, and let the servers write what they have counted."""
        for version in list_versions(self.world.bucket.store(), self.model):
            if manifest_key(self.model, version) in self.world.bucket.documents:
                self._describe(version)
        if not self.world.bucket.down and (self._last is None or self.world.now >= self._last + EVERY):
            self._last = self.world.now
            self._count()

    def _describe(self, version: int) -> None:
        key = f"{version_prefix(self.model, version)}reference.json"
        if key in self.world.bucket.documents:
            return
        counts = [10 * rows for rows in self.present]
        total = sum(counts)
        column = {"name": "age", "kind": "Numeric", "edges": [1.0, 2.0, 3.0], "counts": [*counts, 0]}
        answers = {"name": "y", "kind": "Numeric", "edges": [0.0], "counts": [total // 2, total - total // 2, 0]}
        document = {"rows": total, "columns": [column], "prediction": answers}
        self.world.bucket.write(key, document)

    def _count(self) -> None:
        version, now = selected(self.world, self.deployment), self.world.now
        for pod in self.servers.pods():
            name = pod["metadata"]["name"]
            if version is not None and is_ready(pod) and f"{self.deployment}-v{version}-" in name:
                start = int((now - EVERY).timestamp())
                key = window_key(NAMESPACE, self.deployment, version, start, name)
                self.world.bucket.write(key, self._window(version, name))
                self._written.append((now, key))
        while self._written and self._written[0][0] < now - KEPT:
            self.world.bucket.documents.pop(self._written.pop(0)[1], None)

    def _window(self, version: int, replica: str) -> dict[str, object]:
        rows = sum(self.present)
        return {
            "model": self.model,
            "version": version,
            "replica": replica,
            "start": stamp(self.world.now - EVERY),
            "end": stamp(self.world.now),
            "rows": rows,
            "columns": {"age": [*self.present, 0]},
            "prediction": [rows // 2, rows - rows // 2, 0],
        }
