"""What an elastic gang does when there is not room for all of it, and when there is again."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from modelwright.api.checkpoint import RECIPE_GRACE_SECONDS
from modelwright.api.elastic import Elastic as Wish
from modelwright.api.trainingjob import Attempt, TrainingJobStatus
from modelwright.plan import elastic
from modelwright.plan.actions import Object
from modelwright.plan.attempts import View, attempt_of, finished, is_placeholder
from modelwright.plan.budgets import Repetition, repetition
from modelwright.plan.contenders import contender
from modelwright.plan.lifecycle import Hold, Running
from modelwright.plan.observed import ATTEMPT_LABEL
from modelwright.plan.podstatus import INDEX_ANNOTATION
from modelwright.plan.quotas import Quota
from modelwright.plan.times import parse, seconds_between, stamp
from tests.simulation import chaos
from tests.simulation.cluster import key_of
from tests.simulation.nodes import Kueue, finish, pods_of
from tests.simulation.one_elastic import ELASTIC, PAUSE, WAIT, WORKERS, Elastic
from tests.simulation.one_job import COMMAND
from tests.simulation.trainer import run_of
from tests.simulation.world import SETTINGS
from tests.unit.plan.training_world import message


def job_of(sim: Elastic, number: int) -> Object:
    (found,) = [job for job in sim.world.cluster.of_kind("Job") if attempt_of(job) == number]
    return found


def trains(sim: Elastic, number: int) -> bool:
    return sim.ready == ("False", "Training") and sim.status["attempt"] == number


def shrunk(slots: int = 1, spec: dict[str, Any] | None = None) -> Elastic:
    """Return a gang that has shrunk to as many pods as there is room for, and trains."""
    sim = Elastic(spec, slots=slots)
    sim.until(lambda: trains(sim, 2))
    return sim


def growing(slots: int = 3) -> Elastic:
    """Return a gang of one that has found room for so many pods less one, and is about to end."""
    sim = shrunk()
    sim.nodes.slots = slots
    sim.until(lambda: sim.sizes[-1] == (1, "Grown"))
    return sim


# --- shrinking


def test_a_gang_without_room_for_all_goes_on_with_those_that_have_some() -> None:
    sim = Elastic(slots=2)
    sim.world.run(WAIT - 2)
    assert sim.ready == ("False", "Unschedulable"), "it has patience"
    sim.until(lambda: sim.ready == ("False", "Shrunk"))
    assert message(sim) == "only 2 of 3 workers found a node within 10 s: attempt 2 goes on with 2"
    sim.until(lambda: trains(sim, 2))
    assert message(sim) == "attempt 2 trains on 2 of 3 pods"
    assert sim.status["workers"] == 2
    assert sim.sizes == [(3, "Shrunk"), (2, None)]
    assert [event["reason"] for event in sim.world.events if event["type"] == "Warning"] == ["Unschedulable", "Shrunk"]


def test_nobody_pays_for_it() -> None:
    sim = shrunk()
    assert "failures" not in sim.status or sim.status["failures"] == []
    first = sim.status["attempts"][0]
    assert "failureClass" not in first
    ended, begun = parse(first["endTime"]), job_of(sim, 2)["metadata"]["creationTimestamp"]
    assert seconds_between(first["endTime"], parse(begun)) <= 2, f"no back-off after {ended}"


def test_each_attempt_is_made_for_its_own_number_of_workers() -> None:
    sim = shrunk(slots=2)
    job = job_of(sim, 2)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)
    assert "--nnodes=2" in container["command"]
    assert run_of(job).training.workers.replicas == 2


def test_too_few_workers_are_waited_for() -> None:
    sim = Elastic({**ELASTIC, "workers": {**WORKERS, "elastic": {**WORKERS["elastic"], "min": 2}}}, slots=1)  # type: ignore[dict-item]
    sim.world.run(10 * WAIT)
    assert sim.ready == ("False", "Unschedulable")
    assert sim.world.operator.looks < 10, "there is nothing to look at"
    sim.nodes.slots = 2
    sim.until(lambda: trains(sim, 2))
    assert sim.sizes == [(3, "Shrunk"), (2, None)]


def test_a_gang_that_is_not_elastic_waits_for_ever() -> None:
    sim = Elastic({**ELASTIC, "workers": {"replicas": 3}}, slots=2)
    sim.world.run(5 * WAIT)
    assert sim.ready == ("False", "Unschedulable")
    assert sim.status["attempt"] == 1


def test_what_was_told_is_carried_out_though_room_comes_meanwhile() -> None:
    sim = Elastic(slots=2)
    sim.until(lambda: sim.ready == ("False", "Shrunk"))
    sim.nodes.slots = 3
    sim.until(lambda: trains(sim, 2))
    assert sim.sizes == [(3, "Shrunk"), (2, None)]


def test_a_lost_node_costs_its_budget_once_and_the_shrinking_nothing() -> None:
    sim = Elastic()
    sim.until(lambda: trains(sim, 1))
    sim.lose_room()
    sim.until(lambda: trains(sim, 3))
    assert sim.sizes == [(3, "NodeLost"), (3, "Shrunk"), (2, None)]
    assert sim.status["failures"] == [{"failureClass": "Infrastructure", "count": 1}]


def test_the_attempt_that_only_looked_for_room_is_no_reason_to_forget_what_was_lost() -> None:
    sim = Elastic()
    sim.until(lambda: trains(sim, 1) and sim.status["progress"]["step"] > 4)
    sim.trainer.steps[job_of(sim, 1)["metadata"]["ownerReferences"][0]["uid"]] = 2
    sim.lose_room()
    sim.until(lambda: trains(sim, 3))
    sim.world.run(5)
    first, second, _ = sim.status["attempts"]
    assert first["lostSteps"] == first["lastStep"] - 2
    assert "lostSteps" not in second


def test_the_same_error_on_both_sides_of_a_shrinking_is_the_same_error() -> None:
    at = "2026-11-23T10:00:00Z"
    error = {"reason": "WorkerFailed", "failureClass": "ApplicationError", "lastStep": 7}
    ends = [error, {"reason": "Shrunk"}, error]
    attempts = [Attempt(number=number, start_time=at, end_time=at, **end) for number, end in enumerate(ends, 1)]  # type: ignore[arg-type]
    assert repetition(attempts) == Repetition(1, 7)
    assert repetition(attempts[1:]) is None


def test_after_any_other_loss_all_workers_are_asked_for_again() -> None:
    sim = shrunk(slots=2)
    sim.nodes.slots = 3
    sim.trainer.fail("evicted")
    sim.until(lambda: trains(sim, 3))
    assert sim.sizes == [(3, "Shrunk"), (2, "Evicted"), (3, None)]


@pytest.mark.parametrize("resized", ["Shrunk", "Grown"])
def test_a_program_cannot_have_its_failures_for_free(resized: str) -> None:
    sim = Elastic()
    sim.until(lambda: trains(sim, 1))
    pod = sim.world.cluster.of_kind("Pod")[0]
    finish(sim.world.cluster, pod, code=1, message=f'{{"reason": "{resized}", "message": "free"}}')
    sim.until(lambda: sim.status["attempt"] == 2)
    assert sim.sizes[0] == (3, "WorkerFailed")
    assert sim.status["failures"] == [{"failureClass": "ApplicationError", "count": 1}]


# --- growing


def test_room_is_looked_for_after_a_while_by_pods_like_those_that_are_missing() -> None:
    sim = shrunk()
    assert sim.placeholders == []
    sim.until(lambda: bool(sim.placeholders))
    (job,) = sim.placeholders
    began = str(job_of(sim, 2)["status"]["startTime"])
    assert seconds_between(began, parse(job["metadata"]["creationTimestamp"])) >= PAUSE
    assert (job["spec"]["completions"], attempt_of(job)) == (2, 0)
    sim.world.run(100)
    assert sim.ready == ("False", "Training"), "they wait, and nobody minds"
    assert {pod["status"]["phase"] for pod in pods_of(sim.world.cluster, job)} == {"Pending"}
    assert sim.status["attempt"] == 2


def test_it_grows_when_there_is_room_for_all() -> None:
    sim = growing()
    assert message(sim) == (
        "there is room for 3 workers instead of 1: attempt 2 saves and ends, and attempt 3 goes on with them"
    )
    assert sim.ready == ("False", "Grown")
    sim.until(lambda: trains(sim, 3))
    assert sim.sizes == [(3, "Shrunk"), (1, "Grown"), (3, None)]
    assert sim.status["workers"] == 3
    assert sim.placeholders == []
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert "failures" not in sim.status or sim.status["failures"] == []
    assert [event["type"] for event in sim.world.events if event["reason"] == "Grown"] == ["Normal"]


def test_the_room_is_kept_until_the_larger_gang_begins() -> None:
    sim = growing()
    (placeholder,) = sim.placeholders
    sim.until(lambda: sim.status["attempt"] == 3)
    done = [words for words in sim.world.writes if not words.startswith("status")]
    name, larger = placeholder["metadata"]["name"], job_of(sim, 3)["metadata"]["name"]
    assert done[done.index(f"delete Job {name}") :][:3] == [
        f"delete Job {name}",
        f"apply Service {larger.removesuffix('-3')}",
        f"apply Job {larger}",
    ]
    assert sim.placeholders == []


def test_some_room_is_taken_when_no_more_of_it_comes() -> None:
    sim = shrunk()
    sim.nodes.slots = 2
    sim.until(lambda: bool(sim.placeholders))
    sim.world.run(WAIT // 2)
    assert trains(sim, 2), "there may soon be room for all"
    sim.until(lambda: trains(sim, 3))
    assert sim.sizes == [(3, "Shrunk"), (1, "Grown"), (2, None)]


def test_the_gang_is_asked_to_leave_and_its_job_keeps_its_place_in_a_quota() -> None:
    sim = growing()
    sim.world.run(1)
    job = job_of(sim, 2)
    assert job["spec"]["activeDeadlineSeconds"] == 1, "so it fails, and pods of it get SIGTERM"
    assert "deletionTimestamp" not in job["metadata"]


def test_nobody_stops_a_gang_that_would_begin_anew() -> None:
    sim = Elastic({**COMMAND, "workers": {**COMMAND["workers"], **WORKERS}}, slots=1)
    sim.trainer.reports_lost = True
    sim.until(lambda: trains(sim, 2))
    sim.nodes.slots = 3
    sim.world.run(2 * PAUSE)
    assert sim.placeholders == []
    sim.trainer.reports_lost = False
    sim.until(lambda: trains(sim, 3))


def test_nobody_stops_a_gang_that_has_made_no_step_yet() -> None:
    sim = Elastic()
    sim.until(lambda: "checkpoint" in sim.status)
    sim.trainer.reports_lost = True
    sim.lose_room()
    starts = "attempt 3 has its pods, and has told of no step yet"
    sim.until(lambda: message(sim) == starts)
    sim.nodes.slots = 3
    sim.world.run(2 * PAUSE)
    assert message(sim) == starts, "a gang that takes longer to start than the pause would never come to train"
    assert sim.placeholders == []
    sim.trainer.reports_lost = False
    sim.until(lambda: trains(sim, 4))
    assert [reason for _, reason in sim.sizes][1:] == ["Shrunk", "Grown", None]


def test_nothing_grows_when_little_is_left_to_do() -> None:
    sim = Elastic(slots=1)
    sim.trainer.total, sim.trainer.pause, sim.trainer.tells_eta = 2 * PAUSE - 5, 1, True
    sim.world.settle()
    assert sim.sizes == [(3, "Shrunk"), (1, "Completed")]
    assert not any("room" in words for words in sim.world.writes)


def test_who_looks_for_room_gives_up_in_time() -> None:
    sim = shrunk()
    sim.trainer.tells_eta, sim.trainer.pause = True, 1
    sim.until(lambda: bool(sim.placeholders))
    sim.trainer.total = sim.status["progress"]["step"] + PAUSE - 3
    sim.world.run(5)
    assert sim.placeholders, "what is told of the end goes up and down"
    sim.until(lambda: not sim.placeholders)
    sim.nodes.slots = 3
    sim.world.settle()
    assert sim.sizes == [(3, "Shrunk"), (1, "Completed")]


def test_a_pause_ends_the_search_and_the_gang_goes_on_as_it_was() -> None:
    sim = shrunk()
    sim.until(lambda: bool(sim.placeholders))
    sim.world.edit(sim.key, suspend=True)
    sim.world.run(3)
    assert sim.placeholders == []
    sim.world.edit(sim.key, suspend=False)
    sim.until(lambda: trains(sim, 2))
    assert sim.status["workers"] == 1


def test_a_pause_in_the_middle_of_growing_loses_nothing() -> None:
    sim = growing()
    sim.world.edit(sim.key, suspend=True)
    sim.world.run(5)
    assert sim.ready == ("False", "Suspended")
    assert sim.placeholders == []
    sim.world.edit(sim.key, suspend=False)
    sim.until(lambda: trains(sim, 3))
    assert sim.sizes == [(3, "Shrunk"), (1, "Grown"), (3, None)]


def test_a_placeholder_that_nobody_takes_ends_by_itself_and_is_made_again_after_a_while() -> None:
    sim = shrunk()
    sim.until(lambda: bool(sim.placeholders))
    first = sim.placeholders[0]["metadata"]
    undo = chaos.freeze("Pod")(sim.world)
    sim.nodes.slots, sim.trainer.total = 2, 1000
    sim.until(lambda: bool(sim.placeholders) and finished(sim.placeholders[0]))
    assert seconds_between(first["creationTimestamp"], sim.world.now) < WAIT + RECIPE_GRACE_SECONDS + 70
    assert len([pod for pod in sim.world.cluster.of_kind("Pod") if pod["status"]["phase"] == "Running"]) == 1
    sim.until(lambda: bool(sim.placeholders) and sim.placeholders[0]["metadata"]["uid"] != first["uid"])
    assert undo is not None
    undo()
    sim.until(lambda: trains(sim, 3))


def test_a_placeholder_that_is_refused_disturbs_nobody() -> None:
    sim = shrunk()
    refused = []

    def policy(document: Object) -> str | None:
        refused.append(document["metadata"]["name"])
        return "no room here" if is_placeholder(document) else None

    sim.world.cluster.admission.append(policy)
    sim.world.run(3 * PAUSE)
    assert sim.ready == ("False", "Training")
    assert len(refused) == 2, "at once, after half a minute, after a minute, ..."
    sim.world.cluster.admission.clear()
    sim.nodes.slots = 3
    sim.until(lambda: trains(sim, 3))


def test_kueue_is_not_asked_twice() -> None:
    sim = Elastic(slots=1, labels={"kueue.x-k8s.io/queue-name": "gpus"})
    sim.world.controllers.append(Kueue(sim.world.cluster))
    sim.until(lambda: trains(sim, 2))
    sim.nodes.slots = 3
    sim.world.settle()
    assert sim.sizes == [(3, "Shrunk"), (1, "Completed")]


def test_a_gang_that_cannot_have_the_room_it_finds_tries_ever_more_rarely() -> None:
    sim = Elastic(slots=2)
    sim.trainer.total = 5000
    sim.world.kubelets.obstacle = lambda pod: None if is_placeholder(pod) else sim.nodes.obstacle(pod)
    sim.until(lambda: trains(sim, 8))
    assert [reason for _, reason in sim.sizes] == ["Shrunk", "Grown"] * 3 + ["Shrunk", None]
    lasted = [seconds_between(entry["startTime"], parse(entry["endTime"])) for entry in sim.status["attempts"][1:7:2]]
    assert all(PAUSE * 2**tries <= seconds < PAUSE * 2**tries + WAIT for tries, seconds in enumerate(lasted)), lasted


def _pause(*attempts: tuple[int, str | None, int, bool], pause: int = 300) -> int:
    """Return the pause after attempts with so many workers, ended so, after so many seconds, with a step or without."""
    begun = parse("2026-11-23T10:00:00Z")
    entries = tuple(
        Attempt(
            number=number,
            start_time=stamp(begun),
            workers=workers,
            reason=reason,
            end_time=None if reason is None else stamp(begun + timedelta(seconds=seconds)),
            last_step=7 if stepped else None,
        )
        for number, (workers, reason, seconds, stepped) in enumerate(attempts, 1)
    )
    return elastic.pause_of(TrainingJobStatus(attempts=entries), Wish(min=1, grow_after_seconds=pause))


SMALL, NOW, NO_ROOM = (2, "Grown", 400, True), (2, None, 0, True), (3, "Shrunk", 60, False)
IN_VAIN = (SMALL, NO_ROOM)


@pytest.mark.parametrize(
    ("attempts", "tries"),
    [
        pytest.param((NO_ROOM, NOW), 0, id="it has not grown yet"),
        pytest.param((NO_ROOM, *IN_VAIN, NOW), 1, id="grown in vain"),
        pytest.param((*IN_VAIN, *IN_VAIN, *IN_VAIN, NOW), 3, id="again and again"),
        pytest.param((SMALL, (3, "Preempted", 30, False), NO_ROOM, NOW), 1, id="somebody else is stronger"),
        pytest.param((SMALL, (3, "Preempted", 30, True), NO_ROOM, NOW), 1, id="a few steps are no while"),
        pytest.param((*IN_VAIN, SMALL, (3, "Preempted", 300, True), NO_ROOM, NOW), 0, id="a while is"),
        pytest.param((*IN_VAIN, (2, "Evicted", 400, True), NO_ROOM, NOW), 1, id="a loss says nothing of the room"),
        pytest.param((*IN_VAIN, (1, "Grown", 400, True), NOW), 0, id="it has grown, and may again"),
        pytest.param((NO_ROOM, (1, "Grown", 400, True), *IN_VAIN, NOW), 1, id="by halves"),
    ],
)
def test_the_pause_doubles_with_each_growth_that_did_not_last(
    attempts: tuple[tuple[int, str | None, int, bool], ...], tries: int
) -> None:
    assert _pause(*attempts) == 300 * 2**tries


def test_the_pause_is_some_hours_at_most_unless_the_user_wants_more() -> None:
    assert _pause(*IN_VAIN, *IN_VAIN, *IN_VAIN, *IN_VAIN, NOW, pause=7200) == 6 * 3600
    assert _pause(*IN_VAIN, NOW, pause=86400) == 86400


# --- what others see


def test_a_quota_counts_all_workers_that_are_wished_for() -> None:
    sim = shrunk()
    sim.until(lambda: bool(sim.placeholders))
    owner = sim.world.cluster.get(sim.key)
    assert owner is not None
    job = sim.world.cluster.get(key_of(job_of(sim, 2)))
    assert job is not None
    job["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "2"}}
    counted = contender(job, owner)
    assert counted is not None
    assert counted.demand == {"cpu": Decimal(6)}
    assert contender(sim.placeholders[0], owner) is None


def test_growing_needs_no_new_decision_of_a_quota() -> None:
    spec = {**ELASTIC, "workers": {**WORKERS, "resources": {"requests": {"cpu": "1"}}}}
    sim = Elastic(spec, slots=1)
    sim.world.settings = replace(SETTINGS, quotas=(Quota("cpus", {"cpu": Decimal(3)}),))
    sim.world.crash()
    sim.until(lambda: trains(sim, 2))
    rival = sim.world.add("TrainingJob", "b", {**spec, "priority": 9})
    sim.nodes.slots = 3
    sim.until(lambda: trains(sim, 3))
    assert sim.world.condition(rival) == ("False", "Queued")


def test_how_many_workers_an_attempt_gets_follows_from_the_end_of_the_one_before() -> None:
    ended = [("NodeLost", 4), ("Shrunk", 4), ("Grown", 2)]
    entries = tuple(
        Attempt(number=number, start_time="2026-11-23T10:00:00Z", workers=workers, reason=reason)
        for number, (reason, workers) in enumerate(ended, 1)
    )
    status = TrainingJobStatus(attempts=entries, workers=3)
    assert [elastic.size_of(status, number, 4) for number in (1, 2, 3, 4, 5)] == [4, 4, 2, 3, 4]


def _look(job: Object, *pods: Object) -> elastic.Look:
    """Return a look at an attempt of three workers, long after its room should have been found."""
    room = elastic.Room((), ())
    view = View(1, {1: job}, pods)
    wish = Wish(min=1, wait_seconds=WAIT)
    return elastic.Look(view, wish, 3, room, may_grow=False, pause=PAUSE, eta_seconds=None, now=LONG_AFTER)


def _job(**status: Any) -> Object:
    spec = {"completions": 3, "suspend": False}
    return {"metadata": {"name": "a-1", "labels": {}}, "spec": spec, "status": {"startTime": THEN, **status}}


def _placed(index: int, **metadata: Any) -> Object:
    labels = {ATTEMPT_LABEL: "1", INDEX_ANNOTATION: str(index)}
    found = {"name": f"a-1-{index}", "labels": labels, **metadata}
    scheduled = {"type": "PodScheduled", "status": "True"}
    return {"metadata": found, "spec": {"nodeName": "n"}, "status": {"phase": "Running", "conditions": [scheduled]}}


THEN, LONG_AFTER = "2026-11-23T10:00:00Z", parse("2026-11-23T11:00:00Z")


@pytest.mark.parametrize(
    ("job", "pods", "shrinks"),
    [
        pytest.param(_job(), (_placed(0), _placed(1)), True, id="one found no room"),
        pytest.param(
            _job(conditions=[{"type": "Suspended", "status": "True", "lastTransitionTime": THEN}]),
            (_placed(0), _placed(1)),
            False,
            id="it goes on after a pause, and its Job has not made all of its pods yet",
        ),
        pytest.param(
            _job(),
            (_placed(0), _placed(1, deletionTimestamp=THEN)),
            False,
            id="a pod was deleted, and its peers save before they leave",
        ),
    ],
)
def test_a_worker_that_is_not_there_is_not_always_one_without_room(
    job: Object, pods: tuple[Object, ...], shrinks: bool
) -> None:
    found = elastic.adjusted(Running(), _look(job, *pods))
    assert isinstance(found.step, Hold) is shrinks
