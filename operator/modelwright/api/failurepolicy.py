"""What is done about failures: their classes, a budget of restarts for each, and what the user knows of them."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from modelwright.api.schema import ApiModel, rule, rules


class FailureClass(StrEnum):
    """What kind of failure ended an attempt."""

    APPLICATION_ERROR = "ApplicationError"
    """The program ended with an error of its own."""
    OUT_OF_MEMORY = "OutOfMemory"
    """It wanted more memory than its limit."""
    INFRASTRUCTURE = "Infrastructure"
    """Nothing that the program did: a node, an eviction, a deleted pod, the network, the store."""
    PREEMPTION = "Preemption"
    """The pods had to make room, or their node was taken back."""
    STARTUP_TIMEOUT = "StartupTimeout"
    """A pod had its node and did not start."""
    HANG = "Hang"
    """It made no step any more, and did not end either."""
    DATA_ERROR = "DataError"
    """The data or the configuration is wrong."""


_Restarts = Annotated[int, Field(ge=0, le=100000)]


class RestartBudgets(ApiModel):
    """How many restarts each class of failure may cost. One class does not use up the budget of another."""

    application_error: _Restarts = 3
    """After errors of the program. Two in a row at the same step, with nothing gained between them, end the job at
    once."""
    out_of_memory: _Restarts = 1
    """After the memory limit was hit, which the next attempt is likely to do too."""
    infrastructure: _Restarts = 10
    """After the loss of a node, an eviction, a broken network, an outage of the store."""
    preemption: _Restarts | None = None
    """After preemptions and nodes that were taken back; no limit when unset, for nobody did anything wrong."""
    startup_timeout: _Restarts = 3
    """After pods that did not start in time."""
    hang: _Restarts = 3
    """After attempts that stood still."""
    data_error: _Restarts = 0
    """After errors in the data or the configuration, which do not go away by themselves."""


class FailureRule(ApiModel):
    """Your knowledge of a failure: which one it is, and what class it has."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(has(self.exitCodes) && size(self.exitCodes) > 0) || has(self.message)",
                "a failure rule needs exitCodes or message",
            ),
            rule(
                "has(self.failureClass) || has(self.excludeNode) || has(self.restart)",
                "a failure rule does nothing: give failureClass, restart or excludeNode",
            ),
        )
    )
    exit_codes: Annotated[tuple[Annotated[int, Field(ge=1, le=255)], ...], Field(max_length=32)] = ()
    """Any of these exit codes of the container that failed."""
    message: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Text in the last output of the container that failed, in what it said of its failure, or in Kubernetes' own words
    about the pod; `*` stands for anything, as in `NCCL*timeout`."""
    failure_class: FailureClass | None = None
    """The class that it counts as."""
    restart: bool | None = None
    """False: end the job. True: start again within the budget of its class, even what is known to be final."""
    exclude_node: bool | None = None
    """True: later attempts stay away from the node of the pod that failed."""


PROCESS_RESTARTS = 3
"""Of one attempt of a recipe, where the spec does not say."""


class FailurePolicy(ApiModel):
    """What is done about failures that a new attempt may cure."""

    max_restarts: Annotated[int, Field(ge=0, le=100000)] | None = None
    """New attempts of the gang after the first, those after preemptions aside; unset: only the budgets limit them."""
    budgets: RestartBudgets = RestartBudgets()
    """How many restarts each class of failure may cost."""
    process_restarts: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How often the processes of one attempt may start again in their pods, after a signal killed one of them: this
    costs no restart of a budget. Unset: 3 for a recipe, whose processes go on from the last checkpoint. For a command
    of yours it is the --max-restarts of torchrun, which starts again after any error; unset: 0. A recipe that is one
    process in all, and a command of yours under Ray, have no such thing. A change counts from the next attempt."""
    rules: Annotated[tuple[FailureRule, ...], Field(max_length=20)] = ()
    """What you know of failures; the first rule that fits counts."""
    backoff_seconds: Annotated[int, Field(ge=0, le=3600)] = 5
    """Wait before the first restart; it doubles with each further one, up to five minutes, and stays as it is where it
    is longer. There is none after a preemption of an attempt that ran longer than the wait."""
    startup_timeout_seconds: Annotated[int, Field(ge=10, le=86400)] = 1800
    """How long a pod that has its node may take to start: pull its image, mount its volumes. Waiting for a node does
    not count."""
