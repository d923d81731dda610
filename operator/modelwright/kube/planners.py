"""Which planner a kind has."""

from collections.abc import Mapping

from modelwright.kube.reconcile import Planner
from modelwright.plan import deployment, drift, training, tuning

PLANNERS: Mapping[str, Planner] = {
    "TrainingJob": training.plan,
    "TuningSweep": tuning.plan,
    "ModelDeployment": deployment.plan,
    "DriftPolicy": drift.plan,
}
