"""What a loss costs, and when the next attempt is not worth it."""

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api.failurepolicy import FailureClass, FailurePolicy, FailureRule, RestartBudgets
from modelwright.api.trainingjob import Attempt, FailureCount
from modelwright.plan.budgets import (
    MOST_NODES,
    Budget,
    counted,
    excluded,
    exhausted,
    of_policy,
    repetition,
    rule_for,
    ruled,
)
from modelwright.plan.conditions import Reason
from modelwright.plan.failures import Loss

NCCL = Loss(
    "WorkerFailed",
    "pod a-1-0 (worker 0) exited with code 42: RuntimeError",
    FailureClass.APPLICATION_ERROR,
    node="node-7",
    exit_code=42,
    output="NCCL error in ProcessGroupNCCL.cpp: unhandled system error\nWatchdog caught collective operation timeout",
)
GOES_ON = "goes on from the weights of the last checkpoint with resume.from.trainingJob"


def policy(**fields: Any) -> FailurePolicy:
    return FailurePolicy.model_validate(fields)


def rule(**fields: Any) -> FailureRule:
    return FailureRule.model_validate(fields)


def spent(**counts: int) -> list[FailureCount]:
    return [FailureCount(failure_class=FailureClass(kind), count=count) for kind, count in counts.items()]


def broke(number: int, step: int | None, reason: str = "WorkerFailed", kind: str = "ApplicationError") -> Attempt:
    return Attempt.model_validate(
        {
            "number": number,
            "startTime": "2026-11-23T10:00:00Z",
            "endTime": "2026-11-23T10:01:00Z",
            "reason": reason,
            "failureClass": kind,
            "lastStep": step,
        }
    )


@pytest.mark.parametrize(
    ("kind", "free"),
    [
        ("ApplicationError", 3),
        ("OutOfMemory", 1),
        ("Infrastructure", 10),
        ("StartupTimeout", 3),
        ("DataError", 0),
    ],
)
def test_each_class_has_a_budget_that_it_alone_uses_up(kind: str, free: int) -> None:
    loss = Loss("Some", "it is lost", FailureClass(kind))
    others = {str(other): 1 for other in FailureClass if other != kind}
    assert exhausted(of_policy(policy(), spent(**{kind: free}, **others), ()), loss, 2) is None
    reason, message = exhausted(of_policy(policy(), spent(**{kind: free + 1}), ()), loss, 9) or (None, "")
    assert reason is Reason.RESTARTS_EXHAUSTED
    assert kind in message
    assert ": attempt 9: it is lost; " in message


@pytest.mark.parametrize("kind", FailureClass)
def test_who_has_used_up_a_budget_is_told_which_one_and_how_to_go_on(kind: FailureClass) -> None:
    field = f"{kind[0].lower()}{kind[1:]}"
    assert field in {entry.alias for entry in RestartBudgets.model_fields.values()}
    some = policy(budgets={field: 1})
    for resumable, rest in ((True, f", which {GOES_ON}"), (False, "")):
        budget = of_policy(some, spent(**{kind: 2}), (), resumable=resumable)
        _, message = exhausted(budget, Loss("Some", "it is lost", kind), 2) or ("", "")
        assert message == (
            f"the only restart is used up after failures of class {kind}: attempt 2: it is lost; raise "
            f"spec.failurePolicy.budgets.{field} in a new TrainingJob{rest}"
        )


def test_preemptions_are_free_unless_somebody_says_otherwise() -> None:
    loss = Loss("Preempted", "it had to make room", FailureClass.PREEMPTION)
    assert exhausted(of_policy(policy(maxRestarts=0), spent(Preemption=1000), ()), loss, 1001) is None
    some = policy(budgets={"preemption": 5})
    assert exhausted(of_policy(some, spent(Preemption=5), ()), loss, 6) is None
    assert exhausted(of_policy(some, spent(Preemption=6), ()), loss, 7) is not None


def test_all_classes_but_preemption_share_the_limit_of_the_whole() -> None:
    few = policy(maxRestarts=2)
    loss = Loss("Evicted", "it was evicted", FailureClass.INFRASTRUCTURE)
    assert exhausted(of_policy(few, spent(Infrastructure=1, OutOfMemory=1, Preemption=50), ()), loss, 52) is None
    _, message = exhausted(of_policy(few, spent(Infrastructure=2, OutOfMemory=1), ()), loss, 3) or ("", "")
    assert message.startswith(
        "all 2 restarts are used up: attempt 3: it was evicted; raise spec.failurePolicy.maxRestarts in a new"
    )


def test_a_budget_without_classes_counts_attempts() -> None:
    loss = Loss("Evicted", "it was evicted")
    assert exhausted(Budget(1, spent=1), loss, 1) is None
    assert exhausted(Budget(1, spent=2), loss, 2) == (
        Reason.RESTARTS_EXHAUSTED,
        "the only restart is used up: attempt 2: it was evicted; raise spec.maxRestarts in a new TuningSweep",
    )


def test_the_same_error_at_the_same_step_is_not_tried_a_third_time() -> None:
    attempts = [broke(1, 40), broke(2, 40)]
    reason, message = exhausted(of_policy(policy(), spent(ApplicationError=2), attempts), NCCL, 2) or (None, "")
    assert reason is Reason.FAILURE_REPEATED
    assert message.startswith(
        "attempts 1 and 2 broke with the same error at step 40, and the next would too: attempt 2"
    )
    assert message.endswith("; repair the program, and make a new TrainingJob")
    resumable = of_policy(policy(), spent(ApplicationError=2), attempts, resumable=True)
    _, message = exhausted(resumable, NCCL, 2) or (None, "")
    assert message.endswith(f"; repair the program, and make a new TrainingJob, which {GOES_ON}")
    evicted = Loss("Evicted", "it was evicted", FailureClass.INFRASTRUCTURE)
    assert exhausted(of_policy(policy(), spent(Infrastructure=1), attempts), evicted, 3) is None


def test_a_repetition_names_the_attempts_that_broke_and_not_one_that_only_shrank_between() -> None:
    shrunk = Attempt(number=2, start_time="2026-11-23T10:00:00Z", end_time="2026-11-23T10:01:00Z", reason="Shrunk")
    budget = of_policy(policy(), spent(ApplicationError=2), [broke(1, 40), shrunk, broke(3, 40)])
    _, message = exhausted(budget, NCCL, 3) or (None, "")
    assert message.startswith("attempts 1 and 3 broke with the same error at step 40")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (
            "(worker 0): CUDA error at 0x7f31: an illegal access",
            "(worker 3): CUDA error at 0x8a02: an illegal access",
            True,
        ),
        ("(worker 0): no such file: /tmp/tmpab3x/rows", "(worker 0): no such file: /tmp/tmp9kd1/rows", True),
        ("(worker 0): ConnectionError: Max retries exceeded", "(worker 0): RuntimeError: CUDA error", False),
        ("(worker 0) exited with code 1", "(worker 0) exited with code 139", False),
    ],
)
def test_an_error_is_known_again_by_its_words_and_not_by_where_it_happened(first: str, second: str, same: bool) -> None:
    said = (f"pod a-1-0-x7k2p {first}", f"pod a-2-0-mm41z {second}")
    attempts = [broke(number, 0).model_copy(update={"message": words}) for number, words in enumerate(said, 1)]
    assert (repetition(attempts) is not None) is same


@pytest.mark.parametrize(
    "attempts",
    [
        [],
        [broke(1, 40)],
        [broke(1, 40), broke(2, 60)],
        [broke(1, None), broke(2, None)],
        [broke(1, 40), broke(2, 40, reason="TrainingError")],
        [broke(1, 40, kind="Infrastructure"), broke(2, 40, kind="Infrastructure")],
        [broke(1, 40), broke(2, 40), Attempt(number=3, start_time="2026-11-23T10:02:00Z")],
    ],
)
def test_what_got_further_or_may_have_is_no_repetition(attempts: list[Attempt]) -> None:
    assert repetition(attempts) is None


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"exitCodes": [1, 42]}, True),
        ({"exitCodes": [1]}, False),
        ({"message": "NCCL*timeout"}, True),
        ({"message": "timeout*NCCL"}, False),
        ({"message": "nccl"}, False),
        ({"message": "exited with code 42"}, True),
        ({"exitCodes": [42], "message": "CUDA"}, False),
        ({"exitCodes": [42], "message": "*"}, True),
    ],
)
def test_a_rule_fits_by_exit_code_and_by_text(fields: dict[str, Any], fits: bool) -> None:
    assert (rule_for(NCCL, [rule(**fields, failureClass="Infrastructure")]) is not None) is fits


def test_the_first_rule_that_fits_counts() -> None:
    rules = [
        rule(message="CUDA", failureClass="OutOfMemory"),
        rule(exitCodes=[42], failureClass="Infrastructure"),
        rule(message="NCCL", restart=False),
    ]
    seen = ruled(NCCL, rules)
    assert (seen.failure_class, seen.retryable) == (FailureClass.INFRASTRUCTURE, True)
    assert not ruled(NCCL, rules[2:]).retryable
    assert ruled(NCCL, []) == NCCL


def test_a_rule_may_start_again_what_is_final_within_the_budget_of_its_class() -> None:
    late = Loss("DatasetNotFound", "nothing there yet", FailureClass.DATA_ERROR, retryable=False)
    seen = ruled(late, [rule(message="nothing there", restart=True, failureClass="Infrastructure")])
    assert seen.retryable
    assert exhausted(of_policy(policy(), spent(Infrastructure=1), ()), seen, 1) is None


def test_nodes_are_kept_away_from_only_where_a_rule_says_so() -> None:
    assert excluded(("a",), [NCCL], [rule(exitCodes=[42], failureClass="Infrastructure")]) == ()
    assert excluded(("a",), [NCCL], [rule(exitCodes=[41], excludeNode=True)]) == ("a",)
    away = [rule(exitCodes=[42], excludeNode=True)]
    assert excluded(("a",), [NCCL, NCCL], away) == ("a", "node-7")
    many = tuple(f"n{number}" for number in range(MOST_NODES))
    assert excluded(many, [NCCL], away) == (*many[1:], "node-7")


@given(st.lists(st.sampled_from(list(FailureClass)), max_size=30), st.integers(0, 30))
def test_counts_are_the_same_however_they_are_added(kinds: list[FailureClass], cut: int) -> None:
    at_once, in_parts = counted((), kinds), counted(counted((), kinds[:cut]), kinds[cut:])
    assert at_once == in_parts
    assert sum(entry.count for entry in at_once) == len(kinds)


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", max_size=12))
def test_a_pattern_matches_as_a_shell_would_anywhere_in_the_text(pattern: str, text: str) -> None:
    loss = Loss("Some", "", output=text)
    found = rule_for(loss, [rule(message=pattern, restart=False)]) is not None
    assert found == fnmatchcase(f"{text}\n", f"*{pattern}*")
