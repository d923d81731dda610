"""Gangs wait for room as wholes, in an order that starves nobody."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from modelwright.plan.quotas import Contender, Quota, admit, impossible, limiting, usage, waiting_in

GPU = "nvidia.com/gpu"
GPUS = Quota("gpus", {GPU: Decimal(8)})


def gang(name: str, gpus: int, *, admitted: bool = False, priority: int = 0, namespace: str = "a") -> Contender:
    """Return a gang; names sort in the order of age."""
    return Contender(name, namespace, {GPU: Decimal(gpus)}, admitted, priority, name)


def names(found: Sequence[Contender]) -> str:
    return "".join(entry.identity for entry in found)


def test_gangs_come_in_while_there_is_room() -> None:
    assert names(admit([GPUS], [gang("a", 4), gang("b", 4), gang("c", 1)])) == "ab"


def test_a_gang_that_is_in_keeps_its_room() -> None:
    assert names(admit([GPUS], [gang("a", 6, admitted=True), gang("b", 4), gang("c", 2)])) == ""
    assert names(admit([GPUS], [gang("a", 6, admitted=True), gang("c", 2)])) == "c"


def test_the_higher_priority_goes_first_and_then_the_older() -> None:
    waiting = [gang("a", 8), gang("b", 8, priority=1), gang("c", 8, priority=1)]
    assert names(admit([GPUS], waiting)) == "b"


def test_small_gangs_cannot_starve_a_large_one() -> None:
    assert names(admit([GPUS], [gang("a", 7, admitted=True), gang("b", 8), gang("c", 1)])) == ""


def test_a_gang_that_can_never_fit_keeps_nobody() -> None:
    assert names(admit([GPUS], [gang("a", 9), gang("b", 8)])) == "b"
    assert impossible([GPUS], "a", {GPU: Decimal(9)}) == "it needs 9 nvidia.com/gpu, and the quota gpus has 8 in all"
    assert impossible([GPUS], "a", {GPU: Decimal(8)}) is None


def test_quotas_count_their_namespaces_together_and_no_others() -> None:
    quota = replace(GPUS, namespaces=frozenset({"a", "b"}))
    waiting = [gang("a", 8), gang("b", 1, namespace="b"), gang("c", 99, namespace="c")]
    assert names(admit([quota], waiting)) == "ac"


def test_a_gang_needs_room_in_every_quota_that_counts_it() -> None:
    team = Quota("team", {GPU: Decimal(2)}, frozenset({"a"}))
    first, second = gang("a", 2), gang("b", 2)
    assert names(admit([GPUS, team], [first, second])) == "a"
    assert limiting([GPUS, team], "b", {GPU: Decimal(1)}) == (GPUS,)


def test_what_needs_nothing_that_is_limited_does_not_wait() -> None:
    assert limiting([GPUS], "a", {"cpu": Decimal(4), GPU: Decimal(0)}) == ()


def test_a_quota_that_was_lowered_below_its_use_stops_nobody_and_lets_nobody_in() -> None:
    gangs = [gang("a", 8, admitted=True), gang("b", 6, admitted=True), gang("c", 1)]
    assert admit([GPUS], gangs) == []
    assert names(admit([GPUS], [gangs[0], gang("d", 0)])) == "d"


def test_use_is_what_was_let_in() -> None:
    gangs = [gang("a", 3, admitted=True), gang("b", 4)]
    assert usage([GPUS], gangs) == {("gpus", GPU): Decimal(3)}
    assert names(waiting_in(GPUS, gangs)) == "b"


_GANGS = st.lists(
    st.builds(
        gang,
        st.text("abcdefghij", min_size=6, max_size=6),
        st.integers(0, 10),
        admitted=st.booleans(),
        priority=st.integers(0, 2),
        namespace=st.sampled_from("ab"),
    ),
    unique_by=lambda entry: entry.identity,
)
_QUOTAS = st.lists(
    st.builds(
        lambda name, limit, namespaces: Quota(name, {GPU: Decimal(limit)}, namespaces),
        st.sampled_from(["one", "two", "three"]),
        st.integers(0, 12),
        st.sets(st.sampled_from("ab")).map(frozenset),
    ),
    unique_by=lambda quota: quota.name,
)


@given(_QUOTAS, _GANGS)
def test_nobody_is_let_in_beyond_a_quota(quotas: list[Quota], gangs: list[Contender]) -> None:
    came = [replace(entry, admitted=True) for entry in admit(quotas, gangs)]
    before, added = usage(quotas, gangs), usage(quotas, came)
    for quota in quotas:
        place = (quota.name, GPU)
        assert added[place] == 0 or before[place] + added[place] <= quota.resources[GPU]


@given(_QUOTAS, _GANGS)
def test_whoever_is_first_comes_in_once_the_others_have_left(quotas: list[Quota], gangs: list[Contender]) -> None:
    waiting = [entry for entry in gangs if not entry.admitted]
    able = [entry for entry in waiting if impossible(quotas, entry.namespace, entry.demand) is None]
    admitted = admit(quotas, waiting)
    assert not able or min(able, key=Contender.place) in admitted
    assert all(entry in able for entry in admitted)


@given(_QUOTAS, _GANGS)
def test_a_second_decision_on_the_outcome_of_the_first_lets_nobody_in(
    quotas: list[Quota], gangs: list[Contender]
) -> None:
    came = {entry.identity for entry in admit(quotas, gangs)}
    after = [replace(entry, admitted=entry.admitted or entry.identity in came) for entry in gangs]
    assert admit(quotas, after) == []


@given(_QUOTAS, _GANGS, st.integers(0, 10))
def test_a_late_comer_of_low_priority_takes_no_room_from_those_who_wait(
    quotas: list[Quota], gangs: list[Contender], gpus: int
) -> None:
    late = Contender("z", "a", {GPU: Decimal(gpus)}, admitted=False, priority=-1, created="z")
    came = admit(quotas, [*gangs, late])
    assert [entry for entry in came if entry != late] == admit(quotas, gangs)


def test_a_team_that_waits_in_its_own_quota_does_not_have_the_whole_cluster_wait_with_it() -> None:
    cluster, team = Quota("cluster", {GPU: Decimal(16)}), Quota("team", {GPU: Decimal(4)}, frozenset({"a"}))
    theirs = [gang("a", 4, admitted=True), *(gang(name, 4) for name in "bcd")]
    others = [gang(name, 4, namespace="b") for name in "xyz"]
    # For the next of the team room is kept everywhere: its turn comes as soon as the one that runs has left.
    assert names(admit([cluster, team], [*theirs, *others])) == "xy"
