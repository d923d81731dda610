"""What the reconciler itself promises, whatever planners do with it."""

from datetime import timedelta

from modelwright.kube.reconcile import CONFIRM_SECONDS
from modelwright.plan.actions import Object
from tests.simulation import chaos, one_deployment, one_job
from tests.simulation.world import NAMESPACE, World


def look_for(world: World, time: timedelta) -> None:
    """Let time pass, from one look of the operator to the next, and take a step at each."""
    end = world.now + time
    while world.now < end:
        world.step()
        due = world.operator.next_look()
        world.now = max(world.now, end if due is None else min(end, due))


def test_an_api_server_that_does_not_answer_is_asked_ever_more_rarely() -> None:
    sim = one_job.Simulation()
    sim.world.faults.next_writes.extend(["error"] * 1000)
    look_for(sim.world, timedelta(hours=1))
    tries = 1000 - len(sim.world.faults.next_writes)
    # 1, 2, 4 and so on to 300 seconds.
    assert 12 <= tries <= 20
    sim.world.faults.next_writes.clear()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_a_refused_action_is_tried_ever_more_rarely_and_what_came_before_it_is_not_repeated() -> None:
    sim = one_job.Simulation()
    refused: list[str] = []

    def policy(document: Object) -> str | None:
        if document["kind"] == "Job":
            refused.append(document["metadata"]["name"])
            return "exceeded quota"
        return None

    sim.world.cluster.admission.append(policy)
    for _ in range(25):
        sim.world.operator.resync()
        sim.world.step()
    assert refused == ["a-d9df7-1"]
    assert sim.world.writes.count("apply Service a-d9df7") == 1
    assert sim.ready == ("False", "ChildRejected")
    look_for(sim.world, timedelta(hours=2))
    # After 30 s, 60 s and so on to 30 minutes.
    assert 7 <= len(refused) <= 10
    sim.world.cluster.admission.remove(policy)
    look_for(sim.world, timedelta(minutes=31))
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_a_status_that_is_refused_is_told_in_conditions_and_an_event_until_it_is_taken() -> None:
    sim = one_job.Simulation()
    sim.until_pods_run()
    accept = chaos.status_refused(sim.world)
    sim.world.run(30)
    assert sim.ready == ("False", "StatusRejected")
    told = [event for event in sim.world.events if event["reason"] == "StatusRejected"]
    assert told
    assert len({event["message"] for event in told}) == len(told), "nothing is repeated"
    accept()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    sim.world.assert_steady()


def test_nothing_is_made_for_an_object_that_a_deaf_watch_still_shows() -> None:
    sim = one_job.Simulation()
    bring_back = chaos.secret_missing(sim.world)
    sim.until(lambda: sim.ready == ("False", "SecretNotFound"))
    # Its own last write comes back to it.
    sim.world.step()
    hear = chaos.freeze("TrainingJob")(sim.world)
    written = len(sim.world.writes)
    sim.world.remove(sim.key)
    sim.world.now += timedelta(seconds=CONFIRM_SECONDS)
    assert bring_back is not None
    bring_back()
    sim.until(lambda: sim.world.operator.view(sim.key) is None)
    assert sim.world.writes[written:] == []
    assert hear is not None
    hear()
    sim.world.settle()
    assert sim.world.writes[written:] == []


def test_what_others_made_under_a_name_that_a_user_chose_is_left_alone() -> None:
    sim = one_deployment.Simulation()
    meta = {"name": "churn", "namespace": NAMESPACE, "labels": {}}
    theirs = sim.world.cluster.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": {"app": "theirs"}}}
    )
    sim.world.run(60)
    assert sim.ready == ("False", "ChildRejected")
    assert sim.world.cluster.get(sim.guard.service) == theirs
    sim.world.remove(sim.guard.service)
    look_for(sim.world, timedelta(minutes=31))
    assert sim.ready == ("True", "Serving")
    assert sim.selected == 1


def test_what_happens_is_told_once_in_events() -> None:
    sim = one_job.Simulation()
    sim.world.settle()
    assert [event["reason"] for event in sim.world.events] == ["Starting", "Evaluating", "Succeeded"]
    assert {event["involvedObject"]["name"] for event in sim.world.events} == {"a"}
