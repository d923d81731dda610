"""What is looked at before the work of a gang begins."""

from typing import Annotated

from pydantic import Field

from modelwright.api.schema import ApiModel


class Preflight(ApiModel):
    """Checks of a recipe before it trains: the names of all workers, the storage, the GPUs, a collective.

    A check that fails ends the attempt with the reason PreflightFailed and names the worker and its node.
    """

    enabled: bool = True
    """Whether the checks are made."""
    timeout_seconds: Annotated[int, Field(ge=5, le=3600)] = 120
    """How long all workers have to come to the collective, and it to end."""
