"""The contract between the operator and the pods that answer predictions: what a server is told.

A server gets a `Serve` in the environment variable MODELWRIGHT_SERVE, and leaves a `Failure` (api/run.py) in its
termination message when it cannot serve.
"""

from modelwright.api.modeldeployment import Monitoring
from modelwright.api.run import ResolvedStorage
from modelwright.api.schema import ApiModel, ModelName

SERVE_VARIABLE = "MODELWRIGHT_SERVE"
"""JSON of a `Serve`."""
REPLICA_VARIABLE = "MODELWRIGHT_REPLICA"
"""The name of the pod."""
PORT = 8080
READY_PATH = "/v2/health/ready"
LIVE_PATH = "/v2/health/live"
METRICS_PATH = "/metrics"


class Serve(ApiModel):
    """What a server must know to do its part."""

    namespace: str
    deployment: str
    """Of the ModelDeployment."""
    model: ModelName
    version: int
    storage: ResolvedStorage
    monitoring: Monitoring = Monitoring()
    drain_seconds: int = 15
    """How long it goes on answering after it was told to stop."""
    port: int = PORT
    threads: int | None = None
    """CPU threads of one inference; told from the container's CPU limit when unset."""
