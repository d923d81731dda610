"""What a TrainingJob says and does, one situation at a time; the simulation has the rest."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelwright.api.common import Storage
from modelwright.api.run import Failure
from modelwright.api.trainingjob import Progress
from modelwright.plan import training
from modelwright.plan.actions import Plan
from modelwright.plan.observed import Observed
from modelwright.plan.questions import Answer, Question, SecretExists, Unavailable
from modelwright.plan.times import parse, seconds_between, stamp
from tests.simulation.cluster import Key
from tests.simulation.nodes import JobController, Kueue, finish
from tests.simulation.one_job import COMMAND, RECIPE, Simulation
from tests.simulation.trainer import run_of
from tests.simulation.world import NAMESPACE, SETTINGS
from tests.unit.plan.training_world import message, report, running, with_settings


def test_a_recipe_ends_with_its_version() -> None:
    sim = Simulation()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert message(sim) == "version 1 of titanic is registered; version 1 holds champion"
    assert sim.status["metrics"] == [{"name": "accuracy", "value": 0.9}]
    (attempt,) = sim.status["attempts"]
    assert (attempt["number"], attempt["reason"]) == (1, "Completed")


def test_a_command_ends_with_its_pods() -> None:
    sim = Simulation(COMMAND)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert "model" not in sim.status


def test_the_pods_are_told_what_they_are() -> None:
    sim = running()
    run = run_of(sim.world.cluster.of_kind("Job")[0])
    assert (run.name, run.attempt, run.storage.uri, run.image) == ("a", 1, "s3://models/team", "runtime:1")


def test_a_pod_template_that_makes_no_sense_is_an_invalid_spec() -> None:
    template = {"spec": {"containers": [{"name": "worker", "$patch": "delete"}]}}
    sim = Simulation({**RECIPE, "workers": {"podTemplate": template}})
    sim.world.settle()
    assert sim.ready == ("False", "InvalidSpec")
    assert message(sim).startswith("spec.workers.podTemplate.spec.containers[worker]: $patch cannot")
    assert not sim.world.cluster.of_kind("Job")


def test_a_pod_template_that_is_deeper_than_any_pod_is_an_invalid_spec() -> None:
    affinity: dict[str, Any] = {}
    for _ in range(40):
        affinity = {"a": [affinity]}
    sim = Simulation({**RECIPE, "workers": {"podTemplate": {"spec": {"affinity": affinity}}}})
    sim.world.settle()
    assert sim.ready == ("False", "InvalidSpec")
    assert message(sim) == "spec.workers.podTemplate: nested more than 64 levels deep"


@pytest.mark.parametrize(("length", "reason"), [(65535, "Succeeded"), (65536, "InvalidSpec")])
def test_a_pod_template_has_no_more_annotations_than_a_pod(length: int, reason: str) -> None:
    template = {"metadata": {"annotations": dict.fromkeys("abcd", "x" * length)}}
    sim = Simulation({**RECIPE, "workers": {"podTemplate": template}})
    sim.world.settle()
    assert sim.ready[1] == reason


def test_an_invalid_spec_is_stalled_and_starts_nothing() -> None:
    sim = Simulation({**RECIPE, "workers": {"replicas": 0}})
    sim.world.settle()
    assert sim.ready == ("False", "InvalidSpec")
    assert message(sim).startswith("spec.workers.replicas: ")
    assert sim.world.condition(sim.key, "Succeeded") == ("False", "InvalidSpec")
    assert sim.world.cluster.of_kind("Job") == []


def test_without_storage_it_says_where_to_set_it() -> None:
    sim = with_settings(replace(SETTINGS, storage=Storage()))
    assert sim.ready == ("False", "StorageNotConfigured")
    assert "storage.uri" in message(sim)
    assert sim.world.cluster.of_kind("Job") == []


def test_without_the_secret_it_says_how_to_make_it_and_goes_on_once_it_is_there() -> None:
    sim = with_settings(replace(SETTINGS, storage=Storage(uri="s3://models/team", secret_name="mine")))
    assert sim.ready == ("False", "SecretNotFound")
    assert "kubectl create secret generic mine -n team" in message(sim)
    sim.world.add_secret("mine")
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_what_cannot_be_looked_up_is_said_of_a_new_job_and_changes_nothing_of_an_old_one() -> None:
    sim = Simulation()
    job = sim.world.cluster.get(sim.key)
    assert job is not None
    answers: dict[Question, Answer] = {SecretExists("team", "s3"): Unavailable("secrets is forbidden")}
    plan = training.plan(Observed(job, answers=answers), SETTINGS, sim.world.now)
    assert isinstance(plan, Plan)
    assert [entry["reason"] for entry in plan.status["conditions"] if entry["type"] == "Ready"] == ["ApiUnavailable"]
    assert [(event.reason, event.message) for event in plan.events] == [
        ("ApiUnavailable", "it cannot be looked up: secrets is forbidden")
    ]
    told = {**job, "status": plan.status}
    again = training.plan(Observed(told, answers=answers), SETTINGS, sim.world.now)
    assert isinstance(again, Plan)
    assert (again.status, again.actions, again.events) == (plan.status, (), ())
    assert again.wake_after is not None


def test_what_the_api_server_refuses_is_repeated_to_the_user_and_tried_again() -> None:
    sim = Simulation()
    sim.world.cluster.admission.append(lambda document: "no Jobs here" if document["kind"] == "Job" else None)
    sim.world.run(5)
    assert sim.ready == ("False", "ChildRejected")
    assert message(sim).endswith("no Jobs here")
    assert "attempt" not in sim.status
    assert sim.world.condition(sim.key, "Succeeded") == ("Unknown", "ChildRejected")
    sim.world.cluster.admission.clear()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


@pytest.mark.parametrize(("deed", "reason"), [("image missing", "ImagePullFailed"), ("no node", "Unschedulable")])
def test_pods_that_cannot_start_are_shown_without_a_hot_loop(deed: str, reason: str) -> None:
    sim = Simulation()
    heal = sim.deeds()[deed](sim.world)
    sim.world.run(60)
    assert sim.ready == ("False", reason)
    assert len(sim.world.statuses[sim.key]) <= 2
    assert sim.world.operator.looks < 10
    assert heal is not None
    heal()
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_a_finished_job_is_never_made_again() -> None:
    sim = Simulation()
    sim.world.settle()
    for kind in ("Job", "Service", "Pod"):
        for child in sim.world.cluster.of_kind(kind):
            sim.world.remove(Key(kind, NAMESPACE, child["metadata"]["name"]))
    written = list(sim.world.writes)
    sim.world.crash()
    sim.world.settle()
    assert sim.world.writes == written
    assert sim.ready == ("True", "Succeeded")


def test_a_job_that_has_ended_still_speaks_of_its_newest_spec() -> None:
    sim = Simulation()
    sim.world.settle()
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["observedGeneration"] == 2


def test_it_deletes_itself_when_its_time_is_up() -> None:
    sim = Simulation({**RECIPE, "ttlSecondsAfterFinished": 60})
    sim.world.run(30)
    assert sim.ready == ("True", "Succeeded")
    assert sim.world.cluster.get(sim.key) is not None
    sim.world.settle()
    assert sim.world.cluster.get(sim.key) is None
    assert sim.world.cluster.of_kind("Job") == []


def test_made_suspended_it_has_a_job_and_nothing_else() -> None:
    sim = Simulation({**RECIPE, "suspend": True})
    sim.world.settle()
    assert sim.ready == ("False", "Suspended")
    assert len(sim.world.cluster.of_kind("Job")) == 1
    assert [sim.world.cluster.of_kind(kind) for kind in ("Pod", "Service")] == [[], []]
    assert sim.world.events == []
    assert len(sim.world.statuses[sim.key]) == 1
    assert "activeSince" not in sim.status


def test_a_gang_made_suspended_has_its_names_before_its_pods() -> None:
    sim = Simulation({**COMMAND, "suspend": True})
    sim.world.settle()
    sim.world.edit(sim.key, suspend=False)
    job = sim.world.cluster.get(sim.key)
    assert job is not None
    held = {"Job": tuple(sim.world.cluster.of_kind("Job"))}
    plan = training.plan(Observed(job, held), SETTINGS, sim.world.now)
    assert isinstance(plan, Plan)
    assert [type(action).__name__ for action in plan.actions] == ["Apply", "Patch"]
    sim.until_pods_run()
    assert len(sim.world.cluster.of_kind("Service")) == 1


def test_suspended_time_does_not_count_against_the_deadline() -> None:
    sim = running({**COMMAND, "activeDeadlineSeconds": 100})
    sim.world.run(40)
    sim.world.edit(sim.key, suspend=True)
    sim.world.run(5)
    before = sim.status["activeSeconds"]
    assert 40 <= before <= 46
    sim.world.now += timedelta(hours=1)
    sim.world.crash()
    sim.world.run(5)
    assert sim.status["activeSeconds"] == before
    sim.world.edit(sim.key, suspend=False)
    sim.world.run(30)
    assert sim.ready == ("False", "Training")
    sim.world.settle()
    assert sim.ready == ("False", "DeadlineExceeded")
    assert sim.status["activeSeconds"] == pytest.approx(100, abs=2)
    assert sim.world.cluster.of_kind("Job") == []


def test_a_short_suspension_counts_no_second_twice() -> None:
    sim = running(COMMAND)
    sim.world.run(50)
    jobs = sim.world.controllers.pop(1)
    assert isinstance(jobs, JobController), "it is slow, and never sees the suspension"
    for suspend in (True, False):
        sim.world.edit(sim.key, suspend=suspend)
        sim.world.run(1)
    sim.world.run(10)
    assert sim.ready == ("False", "Training")
    began = parse(sim.status["startTime"])
    assert (
        sim.status["activeSeconds"] + seconds_between(sim.status["activeSince"], sim.world.now)
        <= (sim.world.now - began).total_seconds()
    )


def test_all_attempts_share_the_deadline() -> None:
    sim = running({**COMMAND, "activeDeadlineSeconds": 60})
    sim.world.run(30)
    sim.trainer.fail("exit")
    sim.world.settle()
    assert sim.ready == ("False", "DeadlineExceeded")
    assert sim.status["restarts"] == 1
    assert sim.status["activeSeconds"] == pytest.approx(60, abs=2)


def test_progress_is_what_rank_0_last_said_of_this_attempt() -> None:
    sim = running()
    heard = sim.world.now
    report(sim, progress=Progress(step=10, loss=float("nan")), resumed_from_step=4)
    told = {"step": 10, "lastStepTime": stamp(heard)}
    assert sim.status["progress"] == told
    assert sim.status["attempts"][0]["resumedFromStep"] == 4
    report(sim, progress=Progress(step=10, loss=0.5))
    assert sim.status["progress"] == {**told, "loss": 0.5}, "that was no further step"
    report(sim, stage="Evaluating")
    assert (sim.ready, sim.status["progress"]) == (("False", "Evaluating"), {**told, "loss": 0.5})
    report(sim, attempt=7, progress=Progress(step=99))
    assert (sim.ready, sim.status["progress"]) == (("False", "Evaluating"), {**told, "loss": 0.5})
    sim.world.crash()
    sim.world.step()
    assert sim.ready == ("False", "Evaluating"), "a restarted operator has no report, and no reason to take it back"


def test_pods_that_run_and_make_no_step_yet_start() -> None:
    sim = running()
    for said in ({}, {"stage": "Starting"}):
        if said:
            report(sim, **said)
        sim.world.run(5)
        assert sim.ready == ("False", "Starting")
        assert message(sim) == "attempt 1 has its pods, and has told of no step yet"
    report(sim, progress=Progress(step=1))
    sim.world.run(5)
    assert sim.ready == ("False", "Training")


def test_a_missing_result_is_a_failure_that_says_where_it_was_looked_for() -> None:
    sim = running()
    for pod in sim.world.cluster.of_kind("Pod"):
        finish(sim.world.cluster, pod)
    sim.world.settle()
    assert sim.ready == ("False", "Failed")
    assert message(sim).startswith("the pods ended well, but left no result at s3://models/team/runs/team/")


@pytest.mark.parametrize("model", ["titanic", "fraud"])
def test_a_result_that_claims_a_version_of_somebody_else_moves_no_alias(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = Simulation()
    bucket, honest = sim.world.bucket, sim.trainer.leave_result
    taken = bucket.register(model, {"job": "another team's"})

    def claim(job: Any) -> None:
        honest(job)
        key = next(key for key in bucket.documents if key.endswith("result.json"))
        result = json.loads(bucket.documents[key])
        bucket.documents[key] = json.dumps(result | {"model": {"name": model, "version": taken, "uri": "s3://theirs"}})

    monkeypatch.setattr(sim.trainer, "leave_result", claim)
    sim.world.settle()
    assert sim.ready == ("False", "Failed")
    assert f"/models/{model}/versions/{taken}/manifest.json is not of this job" in message(sim)
    assert not bucket.moves


def test_while_s3_is_away_nothing_is_spent_or_lost() -> None:
    sim = running()
    sim.world.bucket.down = True
    sim.trainer.fail("exit")
    sim.world.run(120)
    assert sim.ready == ("False", "StorageUnavailable")
    assert sim.status["restarts"] == 0
    sim.world.bucket.down = False
    sim.world.controllers.append(sim.trainer)
    sim.world.settle()
    assert (sim.ready, sim.status["restarts"]) == (("True", "Succeeded"), 1)


def test_a_worker_that_dies_after_the_result_does_not_train_it_twice() -> None:
    sim = Simulation()
    sim.trainer.dies_after_result = True
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["model"]["version"] == 1
    assert sim.status["restarts"] == 0


def test_a_suspension_between_the_result_and_the_end_does_not_train_it_twice() -> None:
    sim = running()
    (job,) = sim.world.cluster.of_kind("Job")
    sim.trainer.begin_version(job)
    sim.trainer.leave_result(job)
    sim.world.edit(sim.key, suspend=True)
    sim.world.run(5)
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()
    assert (sim.ready, sim.status["model"]["version"]) == (("True", "Succeeded"), 1)
    assert sim.world.cluster.of_kind("Job") == []


def test_rays_workers_may_fall_once_the_driver_is_done() -> None:
    sim = running({"framework": "Ray", "workers": {"replicas": 3, "command": ["python", "main.py"]}})
    head, worker, _ = sim.world.cluster.of_kind("Pod")
    finish(sim.world.cluster, head)
    finish(sim.world.cluster, worker, code=1)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    said = {entry["conditions"][0]["reason"] for entry in sim.world.statuses[sim.key]}
    assert "Restarting" not in said


def test_a_pod_is_forced_to_go_once() -> None:
    sim = running()
    sim.trainer.lose_node(1)
    sim.world.controllers.clear()
    sim.world.run(150)
    deletes = [words for words in sim.world.writes if words.startswith("delete Pod")]
    assert sorted(deletes) == ["delete Pod a-d9df7-1-0-0", "delete Pod a-d9df7-1-1-0"], "its peer is hurried"


def test_a_job_that_fails_by_its_deadline_leaves_no_gang() -> None:
    sim = running({**COMMAND, "activeDeadlineSeconds": 20})
    sim.world.faults.next_writes.extend(["ok", "crash"])
    sim.world.settle()
    assert sim.ready == ("False", "DeadlineExceeded")
    assert sim.world.cluster.of_kind("Pod") == []


def test_what_lives_on_after_the_end_is_stopped() -> None:
    sim = Simulation()
    sim.world.settle()
    (job,) = sim.world.cluster.of_kind("Job")
    sim.world.cluster.update({**job, "status": {}})
    sim.world.settle()
    assert sim.world.cluster.of_kind("Job") == []


def test_a_deleted_service_is_put_back() -> None:
    sim = running()
    (service,) = sim.world.cluster.of_kind("Service")
    sim.world.remove(Key("Service", NAMESPACE, service["metadata"]["name"]))
    sim.world.run(2)
    assert len(sim.world.cluster.of_kind("Service")) == 1


def test_a_pod_that_is_nobodys_is_stopped_after_the_end_too() -> None:
    sim = Simulation()
    sim.world.settle()
    (pod, *_) = sim.world.cluster.of_kind("Pod")
    labels = {**pod["metadata"]["labels"], "modelwright.dev/attempt": "7"}
    meta = {"name": "orphan", "namespace": NAMESPACE, "labels": labels}
    # Its Job was deleted without it, when no watch told of pods.
    orphan = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": {"phase": "Running"}}
    sim.world.cluster.create(orphan)
    sim.world.settle()
    assert sim.world.cluster.get(Key("Pod", NAMESPACE, "orphan")) is None
    sim.world.assert_steady()


def test_an_attempt_that_the_deadline_ends_has_an_end() -> None:
    sim = running({**COMMAND, "activeDeadlineSeconds": 20})
    sim.world.settle()
    (attempt,) = sim.status["attempts"]
    assert (attempt["reason"], attempt["endTime"]) == ("DeadlineExceeded", sim.status["completionTime"])
    assert attempt["message"] == message(sim)
    # No budget pays for it: there is no next attempt.
    assert {"failureClass", "final"}.isdisjoint(attempt)
    assert "failures" not in sim.status or sim.status["failures"] == []


def test_a_loss_that_is_told_when_the_deadline_comes_stays_the_reason() -> None:
    sim = running({**COMMAND, "activeDeadlineSeconds": 20})
    # One pod is out of memory; the other one takes long to leave, so the attempt has not ended when the time is up.
    sim.world.kubelets.lost.add(sim.world.cluster.of_kind("Pod")[1]["metadata"]["uid"])
    sim.trainer.fail("memory")
    sim.world.settle()
    assert sim.ready == ("False", "DeadlineExceeded")
    (attempt,) = sim.status["attempts"]
    assert (attempt["reason"], attempt["endTime"]) == ("OutOfMemory", sim.status["completionTime"])


def test_an_attempt_whose_work_is_found_done_after_a_suspension_has_completed() -> None:
    sim = Simulation()
    sim.until(lambda: bool(sim.trainer.begun))
    (job,) = sim.world.cluster.of_kind("Job")
    sim.world.controllers.remove(sim.trainer)
    sim.world.edit(sim.key, suspend=True)
    sim.world.run(40)
    sim.trainer.leave_result(job)
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    (attempt,) = sim.status["attempts"]
    assert (attempt["reason"], attempt["endTime"]) == ("Completed", sim.status["completionTime"])


def test_events_tell_the_story_once() -> None:
    sim = running({**RECIPE, "failurePolicy": {"backoffSeconds": 0}})
    sim.trainer.fail("evicted")
    sim.world.controllers.append(sim.trainer)
    sim.world.settle()
    sim.world.assert_steady()
    told = [event["reason"] for event in sim.world.events]
    assert told == ["Starting", "Restarting", "Starting", "Evaluating", "Succeeded"]


def test_kueue_decides_when_a_queued_job_runs() -> None:
    sim = Simulation(labels={"kueue.x-k8s.io/queue-name": "gpus"})
    kueue = Kueue(sim.world.cluster, quota=False)
    sim.world.controllers.append(kueue)
    sim.world.settle()
    assert (sim.ready, message(sim)) == (
        ("False", "Queued"),
        "waiting for Kueue to admit it from the queue gpus",
    )
    assert "activeSince" not in sim.status
    kueue.quota = True
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_a_pods_last_words_have_the_form_that_the_planner_reads() -> None:
    words = Failure(reason="DataInvalid", message="no column y", retryable=False)
    sim = running()
    finish(sim.world.cluster, sim.world.cluster.of_kind("Pod")[0], code=1, message=words.model_dump_json(by_alias=True))
    sim.world.settle()
    assert sim.ready == ("False", "DataInvalid")
