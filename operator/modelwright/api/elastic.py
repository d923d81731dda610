"""Gangs whose number of workers may change, and when it does."""

from typing import Annotated

from pydantic import Field

from modelwright.api.schema import ApiModel

_Seconds = Annotated[int, Field(ge=10, le=86400)]


class Elastic(ApiModel):
    """An elastic gang goes on with fewer workers where there is no room for all, and grows when there is.

    It resumes from its last checkpoint each time, and no failure budget pays for it.
    """

    min: Annotated[int, Field(ge=1, le=999)]
    """So many workers must have a node for the gang to go on; with fewer it waits for more."""
    wait_seconds: _Seconds = 60
    """How long an attempt waits for room for all of its workers. Then it is ended, and the next one starts with as many
    as had a node. Longer than your autoscaler takes to add a node, if you would rather wait for that."""
    grow_after_seconds: _Seconds = 300
    """How long an attempt with fewer workers runs before room for the others is looked for, and how long it is not
    looked for again when that failed. Twice as long for each time in a row that it grew and shrank again, up to six
    hours. Growing costs a restart, so nothing grows when less than this is left."""
