"""How often a gang may start again: what rules make of a loss, and the budget of its class."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from modelwright.api.failurepolicy import FailureClass, FailurePolicy, FailureRule
from modelwright.api.trainingjob import Attempt, FailureCount
from modelwright.plan.conditions import Reason
from modelwright.plan.failures import RESIZED, Loss

_WITH_DIGITS = re.compile(r"(?<!code )\b\S*\d\S*")
MOST_NODES = 100
"""So many nodes are kept away from; older ones are tried again."""


@dataclass(frozen=True)
class Repetition:
    """An attempt broke as one before it did."""

    first: int
    """The number of that one."""
    step: int


@dataclass(frozen=True)
class Budget:
    """What restarts may cost, and what they have cost, the loss in question included."""

    max_restarts: int | None
    """Of all classes but preemption; where there are no classes, the budget is that of a TuningSweep."""
    spent: int
    classes: Mapping[FailureClass, int | None] = field(default_factory=dict)
    """By class; one that is not here, or None, has no limit of its own."""
    spent_by_class: Mapping[FailureClass, int] = field(default_factory=dict)
    repeated: Repetition | None = None
    """The last two attempts broke with the same error."""
    resumable: bool = False
    """A new TrainingJob can start with what this one has learned."""


def of_policy(
    policy: FailurePolicy, failures: Iterable[FailureCount], attempts: Sequence[Attempt], *, resumable: bool = False
) -> Budget:
    """Return the budget of a TrainingJob, from what its status has counted."""
    counted = {entry.failure_class: entry.count for entry in failures}
    budgets = policy.budgets
    classes = {
        FailureClass.APPLICATION_ERROR: budgets.application_error,
        FailureClass.OUT_OF_MEMORY: budgets.out_of_memory,
        FailureClass.INFRASTRUCTURE: budgets.infrastructure,
        FailureClass.PREEMPTION: budgets.preemption,
        FailureClass.STARTUP_TIMEOUT: budgets.startup_timeout,
        FailureClass.HANG: budgets.hang,
        FailureClass.DATA_ERROR: budgets.data_error,
    }
    charged = sum(count for kind, count in counted.items() if kind is not FailureClass.PREEMPTION)
    return Budget(policy.max_restarts, charged, classes, counted, repetition(attempts), resumable)


def exhausted(budget: Budget, loss: Loss, number: int) -> tuple[Reason, str] | None:
    """Return why the attempt of that number, which was lost, was the last, and what to do; None: another may start."""
    kind = loss.failure_class
    told = f"attempt {number}: {loss.message}"
    again = budget.repeated
    if again is not None and kind is FailureClass.APPLICATION_ERROR:
        where = f"attempts {again.first} and {number} broke with the same error at step {again.step}"
        remedy = f"repair the program, and make {_anew(budget)}"
        return Reason.FAILURE_REPEATED, f"{where}, and the next would too: {told}; {remedy}"
    limit = budget.classes.get(kind)
    if limit is not None and budget.spent_by_class.get(kind, 0) > limit:
        words = f"{_all(limit)} after failures of class {kind}" if limit else f"class {kind} has no restarts"
        name = f"budgets.{kind[0].lower()}{kind[1:]}"
        return Reason.RESTARTS_EXHAUSTED, f"{words}: {told}; raise spec.failurePolicy.{name} in {_anew(budget)}"
    if kind is FailureClass.PREEMPTION or budget.max_restarts is None or budget.spent <= budget.max_restarts:
        return None
    words = _all(budget.max_restarts) if budget.max_restarts else "restarts are not wanted"
    where = f"failurePolicy.maxRestarts in {_anew(budget)}" if budget.classes else "maxRestarts in a new TuningSweep"
    return Reason.RESTARTS_EXHAUSTED, f"{words}: {told}; raise spec.{where}"


def ruled(loss: Loss, rules: Iterable[FailureRule]) -> Loss:
    """Return a loss as the first rule that fits it sees it."""
    found = rule_for(loss, rules)
    if found is None:
        return loss
    retryable = loss.retryable if found.restart is None else found.restart
    return replace(loss, failure_class=found.failure_class or loss.failure_class, retryable=retryable)


def rule_for(loss: Loss, rules: Iterable[FailureRule]) -> FailureRule | None:
    """Return the first rule that fits a loss."""
    return next((rule for rule in rules if _fits(rule, loss)), None)


def counted(failures: Iterable[FailureCount], kinds: Iterable[FailureClass]) -> tuple[FailureCount, ...]:
    """Return the counts with some losses more, in the order of their classes."""
    counts = {entry.failure_class: entry.count for entry in failures}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return tuple(FailureCount(failure_class=kind, count=counts[kind]) for kind in sorted(counts))


def excluded(nodes: Sequence[str], lost: Iterable[Loss], rules: Sequence[FailureRule]) -> tuple[str, ...]:
    """Return the nodes to keep away from, with those of new losses for which a rule says so.

    None where no rule excludes nodes any more.
    """
    if not any(rule.exclude_node for rule in rules):
        # Whoever takes such rules away wants the nodes back.
        return ()
    found = list(nodes)
    for loss in lost:
        rule = rule_for(loss, rules)
        if rule is not None and rule.exclude_node and loss.node is not None and loss.node not in found:
            found.append(loss.node)
    return tuple(found[-MOST_NODES:])


def repetition(attempts: Sequence[Attempt]) -> Repetition | None:
    """Return how the last two attempts broke with the same error at the same step; None where they did not.

    Where the step is not known, nothing is concluded: a program that does not report may have got further.
    """
    # One that was ended for the sake of another number of workers tells nothing of the error.
    lost = [entry for entry in attempts if entry.reason not in RESIZED]
    if len(lost) < 2:
        return None
    first, second = lost[-2:]
    broke = second.failure_class is FailureClass.APPLICATION_ERROR and second.end_time is not None
    same = broke and _how(first) == _how(second)
    return Repetition(first.number, second.last_step) if same and second.last_step is not None else None


def _how(attempt: Attempt) -> tuple[object, ...]:
    """Return how an attempt ended, such that it is equal where another one ended by the same error.

    Words with digits are left out, but for the exit code: names of pods, addresses and counts differ each time.
    """
    words = _WITH_DIGITS.sub("#", attempt.message or "")
    return attempt.failure_class, attempt.reason, attempt.last_step, words


def _fits(rule: FailureRule, loss: Loss) -> bool:
    if rule.exit_codes and loss.exit_code not in rule.exit_codes:
        return False
    return rule.message is None or _contains(f"{loss.output}\n{loss.message}", rule.message)


def _contains(text: str, pattern: str) -> bool:
    """Tell whether the parts of a pattern between its `*` occur in a text, in that order.

    Not a regular expression: one that takes for ever would hold up the operator for everybody.
    """
    start = 0
    for part in pattern.split("*"):
        start = text.find(part, start)
        if start < 0:
            return False
        start += len(part)
    return True


def _all(count: int) -> str:
    return "the only restart is used up" if count == 1 else f"all {count} restarts are used up"


def _anew(budget: Budget) -> str:
    """Return what is to follow a TrainingJob that has used up its restarts."""
    goes_on = ", which goes on from the weights of the last checkpoint with resume.from.trainingJob"
    return f"a new TrainingJob{goes_on if budget.resumable else ''}"
