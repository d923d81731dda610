"""Hangs: when a gang that makes no step is given up."""

from typing import Annotated

from pydantic import Field

from modelwright.api.schema import ApiModel


class Hang(ApiModel):
    """When a gang that makes no step any more is given up and started again: a failure of class Hang."""

    enabled: bool = True
    """False: nobody watches. Then a recipe still gives a step up when it waits ten minutes for another worker."""
    timeout_seconds: Annotated[int, Field(ge=10, le=86400)] | None = None
    """How long a step may take. Unset: 20 times the slowest of the last 1,000 steps of the attempt, and 300 s at
    least. The first step has an hour, or twice this time where that is longer, and the time of the preflight: it waits
    for data and for the others."""
