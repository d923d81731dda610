"""What the loss of a gang costs a TrainingJob, one situation at a time."""

import json
from datetime import timedelta
from typing import Any

import pytest

from modelwright.api.trainingjob import CheckpointStatus, Progress
from modelwright.plan import training
from modelwright.plan.actions import Delete, Plan
from modelwright.plan.attempts import attempt_of, finished
from modelwright.plan.departures import HURRY
from modelwright.plan.observed import ATTEMPT_LABEL, Observed
from modelwright.plan.podstatus import alive
from modelwright.plan.queueing import QUEUE_LABEL
from modelwright.plan.times import parse, seconds_between, stamp
from tests.simulation.cluster import key_of
from tests.simulation.nodes import Kueue, finish
from tests.simulation.one_job import COMMAND, RAY, RECIPE, Simulation
from tests.simulation.world import SETTINGS
from tests.unit.plan.training_world import message, report, running


def end_beside_a_proxy(sim: Simulation, *workers: dict[str, Any]) -> None:
    """End the workers of pods into which a webhook has put a proxy, which runs on."""
    now = stamp(sim.world.now)
    for pod, ended in zip(sim.world.cluster.of_kind("Pod"), workers, strict=True):
        state = {"terminated": {"finishedAt": now, **ended}} if ended else {"running": {"startedAt": now}}
        proxy = {"name": "istio-proxy", "state": {"running": {"startedAt": now}}}
        spec = {**pod["spec"], "containers": [*pod["spec"]["containers"], {"name": "istio-proxy"}]}
        status = {**pod["status"], "containerStatuses": [{"name": "worker", "state": state}, proxy]}
        sim.world.cluster.update({**pod, "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("ended", "reason", "words"),
    [
        ({"exitCode": 1, "message": "ValueError: no column"}, "WorkerFailed", "exited with code 1: ValueError: no col"),
        ({"exitCode": 137, "reason": "OOMKilled"}, "OutOfMemory", "ran out of memory"),
    ],
)
def test_a_gang_whose_worker_failed_is_lost_though_a_webhooks_container_keeps_its_pod(
    ended: dict[str, Any], reason: str, words: str
) -> None:
    sim = running(COMMAND)
    end_beside_a_proxy(sim, ended, {"exitCode": 1, "message": json.dumps({"reason": "PeerLost", "message": "gone"})})
    sim.world.run(85)
    assert sim.ready == ("False", "Training"), "it may be about to notice that it is alone"
    sim.world.run(10)
    assert sim.ready == ("False", "Restarting")
    assert words in message(sim)
    sim.until_attempt_runs(2)
    first, _ = sim.status["attempts"]
    assert (first["reason"], words in first["message"]) == (reason, True)
    assert sum(entry["count"] for entry in sim.status["failures"]) == 1
    assert not any(pod["metadata"]["labels"][ATTEMPT_LABEL] == "1" for pod in sim.world.cluster.of_kind("Pod"))


def test_a_job_whose_program_ended_well_says_which_container_keeps_it_from_its_success() -> None:
    sim = running(COMMAND)
    end_beside_a_proxy(sim, {"exitCode": 0}, {})
    sim.world.run(3600)
    assert sim.ready == ("False", "Training"), "the other one is still at it"
    end_beside_a_proxy(sim, {"exitCode": 0}, {"exitCode": 0})
    sim.world.run(95)
    assert sim.ready == ("False", "SidecarRunning")
    assert message(sim).startswith("container istio-proxy keeps pod a-")
    for pod in sim.world.cluster.of_kind("Pod"):
        finish(sim.world.cluster, pod)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_under_ray_the_program_has_ended_well_though_raylets_die_without_their_head() -> None:
    sim = running(RAY)
    end_beside_a_proxy(sim, {"exitCode": 0}, {"exitCode": 1})
    sim.world.run(3600)
    assert sim.ready == ("False", "SidecarRunning")
    assert sim.status["attempt"] == 1


def test_the_gangs_own_side_car_is_left_to_the_kubelet() -> None:
    sim = running(COMMAND)
    for pod in sim.world.cluster.of_kind("Pod"):
        ended = {"exitCode": 1, "finishedAt": stamp(sim.world.now)}
        own = {"name": "proxy", "restartPolicy": "Always"}
        status = {
            **pod["status"],
            "containerStatuses": [{"name": "worker", "state": {"terminated": ended}}],
            "initContainerStatuses": [{"name": "proxy", "state": {"running": {}}}],
        }
        sim.world.cluster.update({**pod, "spec": {**pod["spec"], "initContainers": [own]}, "status": status})
    sim.world.run(3600)
    assert sim.ready == ("False", "Training")


def test_a_lost_gang_starts_again_after_a_wait_that_doubles() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 10, "budgets": {"outOfMemory": 2}}})
    waits = []
    for _ in range(2):
        sim.trainer.fail("memory")
        sim.world.run(3)
        assert sim.ready == ("False", "Restarting")
        assert "(worker 0) ran out of memory" in message(sim)
        failed_at = sim.world.now
        sim.until_pods_run()
        waits.append((sim.world.now - failed_at).total_seconds())
    assert 6 <= waits[0] <= 10 < 16 <= waits[1] <= 20
    sim.trainer.fail("memory")
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted")
    assert message(sim).startswith("all 2 restarts are used up after failures of class OutOfMemory: attempt 3: pod ")
    assert sim.status["failures"] == [{"failureClass": "OutOfMemory", "count": 3}]
    assert [entry["reason"] for entry in sim.status["attempts"]] == ["OutOfMemory"] * 3
    assert len(sim.world.cluster.of_kind("Job")) == 3, "their pods hold the logs"


def test_a_budget_that_is_raised_in_time_lets_a_job_go_on() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0, "budgets": {"outOfMemory": 1}}})
    sim.trainer.fail("memory")
    sim.until_attempt_runs(2)
    sim.world.edit(sim.key, failurePolicy={"budgets": {"outOfMemory": 2}})
    sim.trainer.fail("memory")
    sim.until_attempt_runs(3)
    sim.trainer.fail("memory")
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted")
    assert "raise spec.failurePolicy.budgets.outOfMemory in a new TrainingJob" in message(sim)
    sim.world.edit(sim.key, failurePolicy={"budgets": {"outOfMemory": 9}})
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted"), "the end is final"


TREES = {
    **RECIPE,
    "workers": {"replicas": 1},
    "recipe": {"tabular": {"task": "Classification", "target": "y", "algorithm": "LightGBM"}},
}


@pytest.mark.parametrize(
    ("spec", "saved", "goes_on"),
    [
        (RECIPE, True, True),
        (COMMAND, True, True),
        (RECIPE, False, False),
        (COMMAND, False, False),
        (TREES, True, False),
    ],
)
@pytest.mark.parametrize("policy", [{"maxRestarts": 0}, {"budgets": {"applicationError": 0}}])
def test_a_warm_start_is_advised_only_where_it_would_be_possible(
    spec: dict[str, Any], saved: bool, goes_on: bool, policy: dict[str, Any]
) -> None:
    sim = running({**spec, "failurePolicy": policy})
    if saved:
        uri = "s3://models/team/runs/team/uid/checkpoints/3/"
        report(sim, checkpoint=CheckpointStatus(step=3, uri=uri, time=stamp(sim.world.now)))
    sim.trainer.fail("exit")
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted")
    assert "; raise spec.failurePolicy." in message(sim)
    assert ("resume.from.trainingJob" in message(sim)) is goes_on
    assert message(sim).endswith(" in a new TrainingJob") is not goes_on


def test_a_budget_that_is_lowered_below_what_is_spent_ends_no_gang_that_runs() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0, "budgets": {"outOfMemory": 3}}})
    sim.trainer.fail("memory")
    sim.until_attempt_runs(2)
    sim.world.edit(sim.key, failurePolicy={"maxRestarts": 0, "budgets": {"outOfMemory": 0}})
    sim.world.run(30)
    assert (sim.ready, sim.status["attempt"]) == (("False", "Starting"), 2)
    sim.world.controllers.append(sim.trainer)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_a_budget_that_is_lowered_counts_for_the_loss_after_it() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0, "budgets": {"outOfMemory": 3}}})
    sim.world.edit(sim.key, failurePolicy={"budgets": {"outOfMemory": 0}})
    sim.world.run(3)
    sim.trainer.fail("memory")
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted")
    assert sim.status["restarts"] == 0


def test_a_rule_that_is_added_judges_no_loss_that_was_charged_before() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 30}})
    sim.trainer.fail("exit")
    sim.until(lambda: bool(sim.status.get("failures")))
    final = [{"exitCodes": [1], "failureClass": "DataError", "restart": False}]
    sim.world.edit(sim.key, failurePolicy={"backoffSeconds": 0, "rules": final})
    sim.until_attempt_runs(2)
    assert sim.status["failures"] == [{"failureClass": "ApplicationError", "count": 1}]
    sim.trainer.fail("exit")
    sim.world.settle()
    assert sim.ready == ("False", "WorkerFailed")
    assert [entry["failureClass"] for entry in sim.status["failures"]] == ["ApplicationError", "DataError"]


def test_what_a_restart_cannot_cure_fails_at_once_with_its_own_reason() -> None:
    sim = running()
    sim.trainer.fail("final")
    sim.world.settle()
    assert sim.ready == ("False", "DataInvalid")
    assert message(sim).endswith("(worker 0): no column y")
    assert sim.status["restarts"] == 0


def test_a_program_that_breaks_twice_at_the_same_step_is_not_started_again() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0}})
    for number in (1, 2):
        report(sim, number, progress=Progress(step=7))
        sim.trainer.fail("exit")
        sim.world.run(8)
    assert sim.ready == ("False", "FailureRepeated")
    assert "same error at step 7" in message(sim)
    assert [entry["lastStep"] for entry in sim.status["attempts"]] == [7, 7]


@pytest.mark.parametrize(("ran", "waits"), [(40, (0, 8)), (3, (25, 40))])
def test_a_preempted_gang_starts_again_for_free_and_at_once_if_it_had_run(ran: int, waits: tuple[int, int]) -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 30, "maxRestarts": 0}})
    sim.world.run(ran)
    failed_at = sim.world.now
    sim.trainer.fail("preempted")
    sim.until(lambda: sim.status["attempt"] == 2)
    assert waits[0] <= (sim.world.now - failed_at).total_seconds() <= waits[1]
    sim.until_attempt_runs(2)
    assert sim.status["failures"] == [{"failureClass": "Preemption", "count": 1}]
    assert sim.status["attempts"][0]["failureClass"] == "Preemption"


def test_a_job_that_is_preempted_for_ever_leaves_no_more_than_its_newest_jobs() -> None:
    sim = running({**RECIPE, "failurePolicy": {"budgets": {"preemption": 100}}})
    for number in range(1, 15):
        sim.until_attempt_runs(number)
        sim.trainer.fail("preempted")
    sim.until_attempt_runs(15)
    assert sim.status["failures"] == [{"failureClass": "Preemption", "count": 14}]
    assert sorted(attempt_of(job) for job in sim.world.cluster.of_kind("Job")) == list(range(6, 16))


def test_a_rule_keeps_later_attempts_away_from_a_bad_node() -> None:
    rules = [{"exitCodes": [1], "failureClass": "Infrastructure", "excludeNode": True}]
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0, "rules": rules}})
    for pod in sim.world.cluster.of_kind("Pod"):
        sim.world.cluster.update({**pod, "spec": {**pod.get("spec", {}), "nodeName": "node-7"}})
    sim.trainer.fail("exit")
    sim.until_attempt_runs(2)
    assert sim.status["excludedNodes"] == ["node-7"]
    (attempt, _) = sim.status["attempts"]
    assert (attempt["failureClass"], attempt["node"]) == ("Infrastructure", "node-7")
    pod_spec = sim.world.cluster.of_kind("Job")[1]["spec"]["template"]["spec"]
    (term,) = pod_spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-7"]}]}


def test_a_node_is_free_again_when_no_rule_keeps_away_from_nodes_any_more() -> None:
    rules = [{"exitCodes": [1], "excludeNode": True}]
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0, "rules": rules}})
    for pod in sim.world.cluster.of_kind("Pod"):
        sim.world.cluster.update({**pod, "spec": {**pod.get("spec", {}), "nodeName": "node-7"}})
    sim.trainer.fail("exit")
    sim.until_attempt_runs(2)
    sim.world.edit(sim.key, failurePolicy={"rules": None})
    sim.trainer.fail("exit")
    sim.until_attempt_runs(3)
    assert not sim.status.get("excludedNodes")
    assert "affinity" not in sim.world.cluster.of_kind("Job")[2]["spec"]["template"]["spec"]


def test_a_gang_that_started_after_it_was_given_up_goes_all_the_same() -> None:
    sim = running({**RECIPE, "failurePolicy": {"startupTimeoutSeconds": 60}})
    job, jobs, pods = (sim.world.cluster.of_kind(kind) for kind in ("TrainingJob", "Job", "Pod"))
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(sim.world.now)}
    late = [{**pod, "status": {"phase": "Pending", "conditions": [scheduled]}} for pod in pods]
    now = sim.world.now + timedelta(seconds=60)
    told = training.plan(Observed(job[0], {"Job": tuple(jobs), "Pod": tuple(late)}), SETTINGS, now)
    assert isinstance(told, Plan)
    assert (told.actions, told.wake_after) == ((), 0.0), "first why, then the end of it"
    job[0]["status"] = told.status
    gone = training.plan(Observed(job[0], {"Job": tuple(jobs), "Pod": tuple(pods)}), SETTINGS, now)
    assert isinstance(gone, Plan)
    assert [type(action).__name__ for action in gone.actions] == ["Delete"]


def test_a_queued_job_that_somebody_always_deletes_does_not_go_on_for_ever() -> None:
    sim = Simulation({**COMMAND, "failurePolicy": {"budgets": {"infrastructure": 2}}}, {QUEUE_LABEL: "gpus"})
    for _ in range(5):
        sim.world.run(5)
        sim.trainer.delete_job()
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted")
    assert sim.status["failures"] == [{"failureClass": "Infrastructure", "count": 3}]


def test_pods_that_do_not_start_on_their_node_cost_a_restart_of_their_class() -> None:
    sim = Simulation({**RECIPE, "failurePolicy": {"startupTimeoutSeconds": 60, "budgets": {"startupTimeout": 1}}})
    at = stamp(sim.world.now)
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at}
    sim.world.kubelets.obstacle = lambda pod: {"conditions": [scheduled]}
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted")
    assert [entry["reason"] for entry in sim.status["attempts"]] == ["StartTimeout", "StartTimeout"]
    assert sim.status["failures"] == [{"failureClass": "StartupTimeout", "count": 2}]


def test_a_loss_that_no_restart_helps_is_remembered_as_such() -> None:
    sim = running()
    sim.trainer.fail("final")
    sim.world.settle()
    (attempt,) = sim.status["attempts"]
    assert (attempt["final"], attempt["failureClass"]) == (True, "DataError")


def test_steps_that_were_made_for_nothing_are_counted() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0}})
    report(sim, 1, progress=Progress(step=120))
    sim.trainer.fail("evicted")
    sim.until_attempt_runs(2)
    report(sim, 2, progress=Progress(step=101), resumed_from_step=100)
    assert [entry.get("lostSteps") for entry in sim.status["attempts"]] == [20, None]


def test_a_deleted_job_costs_a_restart() -> None:
    sim = running()
    sim.trainer.delete_job()
    sim.world.settle()
    assert [entry.get("reason") for entry in sim.status["attempts"]] == ["JobDeleted", None]
    assert sim.status["restarts"] == 1


def test_a_node_that_does_not_answer_is_given_up() -> None:
    sim = running()
    sim.trainer.lose_node(1)
    sim.world.run(60)
    assert sim.status["restarts"] == 0, "its pod may still come to an end"
    sim.world.settle()
    assert sim.status["attempts"][0]["reason"] == "NodeLost"
    assert (sim.status["attempt"], sim.ready) == (2, ("False", "Starting"))


def test_a_gang_that_stood_still_starts_again_within_its_budget_and_says_where_its_logs_are() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0, "budgets": {"hang": 1}}})
    for number in (1, 2):
        sim.until_attempt_runs(number)
        sim.trainer.fail("hang")
    sim.world.settle()
    assert sim.ready == ("False", "RestartsExhausted")
    assert sim.status["failures"] == [{"failureClass": "Hang", "count": 2}]
    first, second = sim.status["attempts"]
    assert (first["reason"], first["failureClass"], first["lastStep"]) == ("Hang", "Hang", 2)
    uid = sim.world.cluster.objects[sim.key]["metadata"]["uid"]
    assert first["logs"].endswith(f"/runs/team/{uid}/attempts/1/")
    assert second["logs"].endswith(f"/runs/team/{uid}/attempts/2/")


@pytest.mark.parametrize(
    ("how", "given", "grace"), [("hang", 120, [10]), ("hang", 5, []), ("hang", 0, []), ("exit", 120, [])]
)
def test_who_hangs_still_is_not_waited_for(how: str, given: int, grace: list[int]) -> None:
    sim = running()
    job, jobs = (sim.world.cluster.of_kind(kind) for kind in ("TrainingJob", "Job"))
    sim.trainer.fail(how)
    failed, stopped = sim.world.cluster.of_kind("Pod")
    failing = {"type": "FailureTarget", "status": "True", "lastTransitionTime": stamp(sim.world.now)}
    jobs[0]["status"]["conditions"] = [failing]
    asked = {"deletionTimestamp": stamp(sim.world.now + timedelta(seconds=given)), "deletionGracePeriodSeconds": given}
    stopped = {**stopped, "metadata": {**stopped["metadata"], **asked}}
    seen = Observed(job[0], {"Job": tuple(jobs), "Pod": (failed, stopped)})
    for _ in range(2):
        # First why, then the end of it.
        told = training.plan(seen, SETTINGS, sim.world.now)
        assert isinstance(told, Plan)
        job[0]["status"] = told.status
    deletes = [action for action in told.actions if isinstance(action, Delete)]
    assert [(action.ref.name, action.grace_seconds) for action in deletes] == [
        (stopped["metadata"]["name"], seconds) for seconds in grace
    ]


def test_an_attempt_that_kueue_started_says_where_its_logs_are() -> None:
    sim = Simulation(RECIPE, {QUEUE_LABEL: "gpus"})
    sim.world.controllers.append(Kueue(sim.world.cluster))
    sim.until_attempt_runs(1)
    sim.world.run(3)
    assert sim.status["attempts"][0]["logs"].endswith("/attempts/1/")


def test_an_image_of_the_users_keeps_no_logs() -> None:
    sim = running(COMMAND)
    assert "logs" not in sim.status["attempts"][0]


def vanished(sim: Simulation, number: int = 1) -> None:
    """Let an attempt fail, and its pods be gone before anybody looks."""
    for pod in sim.world.cluster.of_kind("Pod"):
        finish(sim.world.cluster, pod, 143)
    sim.world.act_unseen()
    for pod in sim.world.cluster.of_kind("Pod"):
        sim.world.cluster.remove(key_of(pod))
    (job,) = (job for job in sim.world.cluster.of_kind("Job") if attempt_of(job) == number)
    assert finished(job)


@pytest.mark.parametrize(("ran", "longest"), [(20, 2), (2, 8)])
def test_pods_that_are_gone_are_waited_for_only_where_nobody_can_have_seen_them(ran: int, longest: int) -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0}})
    sim.world.run(ran - 2)
    vanished(sim)
    failed_at = sim.world.now
    sim.until(lambda: sim.status["attempt"] == 2)
    assert longest / 2 <= (sim.world.now - failed_at).total_seconds() <= longest
    assert sim.status["attempts"][0]["reason"] == "PodDeleted"


def test_what_broke_a_gang_is_not_the_node_that_its_peers_cannot_leave() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0}})
    pods = [pod for pod in sim.world.cluster.of_kind("Pod") if alive(pod)]
    sim.world.kubelets.lost.add(pods[1]["metadata"]["uid"])
    sim.trainer.fail("exit", 0)
    sim.until(lambda: sim.status["attempt"] == 2)
    assert [entry["reason"] for entry in sim.status["attempts"][:1]] == ["WorkerFailed"]
    assert sim.status["failures"] == [{"failureClass": "ApplicationError", "count": 1}]


def test_peers_of_a_pod_whose_node_cannot_confirm_its_end_are_not_waited_for() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0}})
    sim.world.kubelets.leaves_after = 1000.0
    sim.trainer.lose_node(1)
    sim.until(lambda: sim.status["attempts"][0].get("reason") == "NodeLost")
    sim.world.run(2)
    stopped = [pod["metadata"] for pod in sim.world.cluster.of_kind("Pod") if attempt_of(pod) == 1]
    assert [meta.get("deletionGracePeriodSeconds") for meta in stopped] == [HURRY]


@pytest.mark.parametrize(
    ("how", "failure_class", "ready"),
    [("final", "DataError", "DataInvalid"), ("memory", "OutOfMemory", "RestartsExhausted")],
)
def test_why_a_pod_failed_is_waited_for_where_its_job_is_seen_to_fail_first(
    how: str, failure_class: str, ready: str
) -> None:
    budgets = {"outOfMemory": 0, "infrastructure": 5}
    sim = running({**RECIPE, "workers": {"replicas": 1}, "failurePolicy": {"backoffSeconds": 1, "budgets": budgets}})
    sim.world.faults.frozen = {"Pod": sim.world.cluster.version}
    sim.trainer.fail(how)
    sim.world.run(2)
    sim.world.faults.frozen = {}
    sim.world.settle()
    (attempt,) = sim.status["attempts"]
    assert attempt["failureClass"] == failure_class
    assert sim.ready == ("False", ready)


def test_an_attempt_whose_node_is_gone_ends_when_it_was_said_to_and_waits_its_turn() -> None:
    sim = running({**RECIPE, "workers": {"replicas": 1}, "failurePolicy": {"backoffSeconds": 60}})
    sim.world.now += timedelta(hours=4)
    sim.world.run(2)
    (pod,) = sim.world.cluster.of_kind("Pod")
    gone = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
    status = {**pod["status"], "phase": "Failed", "conditions": [*pod["status"]["conditions"], gone]}
    died = sim.world.now
    sim.world.cluster.update({**pod, "status": status})
    sim.until(lambda: len(sim.status["attempts"]) == 2)
    first, second = sim.status["attempts"]
    assert first["endTime"] >= stamp(died)
    assert seconds_between(first["endTime"], parse(second["startTime"])) >= 60
