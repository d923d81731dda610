"""What a gang that is placed together lacks, and what is said while it waits."""

from datetime import timedelta
from typing import Any

from modelwright.api.trainingjob import Workers
from modelwright.plan.actions import Apply, Object
from modelwright.plan.attempts import View
from modelwright.plan.exclusion import PATIENCE as SHUT_OUT
from modelwright.plan.exclusion import cornered
from modelwright.plan.gangstart import PATIENCE, Together, together
from modelwright.plan.observed import Observed
from modelwright.plan.settings import Settings
from modelwright.plan.startup import trouble
from modelwright.plan.times import stamp
from tests.unit.plan.test_exclusion import EXCLUDED, LATER, NOON, waiting
from tests.unit.plan.test_gang import SETTINGS
from tests.unit.plan.test_podgroup import GROUPED, created

AWAITS = "pod group is unschedulable, waiting for minCount pods from a gang to be scheduled"
FULL = "0/2 nodes are available: 2 Insufficient example.com/slot."


def pod(index: int, **status: Any) -> Object:
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    meta = {"name": f"a-1-{index}", "labels": labels}
    return {"metadata": meta, "spec": {}, "status": {"phase": "Pending", **status}}


def look(
    *pods: Object, after: float = 0, groups: tuple[Object, ...] = (), settings: Settings = GROUPED, **workers: Any
) -> Together | None:
    """Look at a gang so many seconds after its Job was started."""
    job = {**created(**workers), "status": {"startTime": stamp(NOON)}}
    wanted = {"replicas": 2, **workers}
    spec = Workers.model_validate(wanted)
    observed = Observed({"metadata": {}}, {"Job": (job,), "PodGroup": groups})
    return together(observed, View(1, {1: job}, with_attempt(pods)), spec, settings, NOON + timedelta(seconds=after))


def with_attempt(pods: tuple[Object, ...]) -> tuple[Object, ...]:
    marks = {"modelwright.dev/attempt": "1"}
    return tuple(
        {**entry, "metadata": {**entry["metadata"], "labels": {**entry["metadata"]["labels"], **marks}}}
        for entry in pods
    )


def the_group() -> Object:
    return {"metadata": {"name": created()["metadata"]["name"]}}


def test_a_group_that_is_not_there_is_made_for_as_many_pods_as_must_start() -> None:
    found = look(replicas=4, elastic={"min": 2})
    assert found is not None
    assert isinstance(found.missing, Apply)
    assert found.missing.object["spec"]["schedulingPolicy"] == {"gang": {"minCount": 2}}
    assert look(groups=(the_group(),)) == Together(2)


def test_the_group_of_another_attempt_is_another() -> None:
    found = look(groups=({"metadata": {"name": "titanic-0-7"}},))
    assert found is not None
    assert found.missing is not None


def test_a_gang_that_was_made_before_groups_were_known_stays_as_it_is() -> None:
    job = created()
    del job["spec"]["template"]["spec"]["schedulingGroup"]
    observed = Observed({"metadata": {}}, {"Job": (job,)})
    assert together(observed, View(1, {1: job}, ()), Workers(replicas=2), GROUPED, NOON) is None
    assert together(observed, View(1, {}, ()), Workers(replicas=2), GROUPED, NOON) is None


def test_nothing_is_said_of_pods_that_the_scheduler_may_look_at_yet() -> None:
    found = look(pod(0), after=10, groups=(the_group(),))
    assert found == Together(2, wake_after=PATIENCE - 10)


def test_a_gang_that_lacks_a_pod_says_where_to_look_for_the_reason() -> None:
    found = look(pod(0), after=PATIENCE, groups=(the_group(),))
    name = created()["metadata"]["name"]
    assert found == Together(
        2, held=f"2 pods must start together, and there are 1: kubectl describe job {name} tells why"
    )
    assert look(pod(0), pod(1), after=PATIENCE, groups=(the_group(),)) == Together(2)


def test_pods_that_the_scheduler_has_looked_at_speak_for_themselves() -> None:
    assert look(waiting(FULL), after=600, groups=(the_group(),)) == Together(2)
    assert look(after=600, groups=(the_group(),)) == Together(2)


def test_an_operator_that_makes_no_groups_any_more_says_how_to_go_on_without() -> None:
    found = look(pod(0), pod(1), after=PATIENCE, settings=SETTINGS)
    assert found is not None
    assert found.missing is None
    assert "gangScheduling Disabled" in str(found.held)
    assert f"kubectl delete job {created()['metadata']['name']} has the gang start again without one" in str(found.held)


def test_of_pods_that_wait_for_each_other_the_one_that_does_not_fit_is_heard() -> None:
    found = trouble([waiting(AWAITS), waiting(FULL, 1)], together=2)
    assert found is not None
    assert found.message == f"2 pods must find nodes together, and do not: {FULL}"


def test_who_waits_for_a_peer_that_has_not_been_looked_at_says_nothing_yet() -> None:
    assert trouble([waiting(AWAITS), pod(1)], together=2) is None
    preempting = trouble([waiting(AWAITS), waiting(AWAITS, 1)], together=2)
    assert preempting is not None
    assert preempting.message == f"2 pods must find nodes together, and do not: {AWAITS}"


def test_those_that_an_elastic_gang_still_lacks_are_told_of_as_everywhere() -> None:
    placed = {**pod(0, phase="Running"), "spec": {"nodeName": "node-1"}}
    found = trouble([placed, waiting(FULL, 2)], together=2)
    assert found is not None
    assert found.message == f"pods find no node: {FULL}"


def test_a_pod_that_would_fit_fills_a_node_for_the_others_that_have_only_excluded_ones() -> None:
    text = f"0/2 nodes are available: 1 Insufficient example.com/slot, 1 {EXCLUDED}."
    assert cornered([waiting(text)], ("bad",), LATER) == (None, None), "others fill it, and may leave"
    gang = [waiting(AWAITS), waiting(text, 1)]
    assert cornered(gang, ("bad",), NOON) == (None, SHUT_OUT)
    loss, _ = cornered(gang, ("bad",), LATER)
    assert loss is not None
    assert loss.reason == "NodesExcluded"
