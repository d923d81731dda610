"""One TrainingJob in a world of its own: what it may suffer beside what every owner of gangs does."""

from typing import Any

from modelwright.plan import training
from tests.simulation.chaos import Deed
from tests.simulation.one_owner import OneOwner
from tests.simulation.world import World

RECIPE = {
    "workers": {"replicas": 2},
    "recipe": {"tabular": {"task": "Classification", "target": "y"}},
    "dataset": {"uri": "s3://data/rows.csv"},
    "model": {"name": "titanic", "promotion": {"metric": "accuracy"}},
}
COMMAND = {"workers": {"replicas": 2, "image": "mine", "command": ["python", "main.py"]}}
RAY = {**RECIPE, "framework": "Ray"}


class Simulation(OneOwner):
    """One TrainingJob in a world of its own, and what must hold for it."""

    def __init__(self, spec: dict[str, Any] | None = None, labels: dict[str, str] | None = None) -> None:
        super().__init__({"TrainingJob": training.plan}, "TrainingJob", spec or RECIPE, labels)

    def deeds(self) -> dict[str, Deed]:
        """Return what may happen to this job."""
        return {**super().deeds(), "rival promoted": self._promote_rival}

    def _promote_rival(self, world: World) -> None:
        version = world.bucket.register("titanic", {"job": "rival"})
        world.bucket.set_alias("titanic", "champion", version, "rival", "it is better")
