"""Starting from another job by its name: when, from which checkpoint, and that it stays that one."""

from collections.abc import Mapping
from typing import Any

import pytest

from modelwright.api.layout import checkpoint_prefix
from modelwright.plan.attempts import attempt_of
from tests.simulation.cluster import Key
from tests.simulation.one_job import COMMAND, RECIPE, Simulation
from tests.simulation.trainer import run_of
from tests.simulation.world import NAMESPACE
from tests.unit.plan.training_world import message

FROM_SOURCE = {"resume": {"from": {"trainingJob": "source"}}}
SOURCE = Key("TrainingJob", NAMESPACE, "source")


def uid_of(sim: Simulation) -> str:
    return str(sim.world.cluster.objects[SOURCE]["metadata"]["uid"])


def add_source(sim: Simulation, spec: Mapping[str, Any], *steps: int) -> str:
    """Add the job to start from, with checkpoints in the bucket; return its UID."""
    sim.world.add("TrainingJob", "source", spec)
    uid = uid_of(sim)
    for step in steps:
        sim.world.bucket.write(f"{checkpoint_prefix(NAMESPACE, uid, step)}manifest.json", {"step": step})
    return uid


def starting_from(sim: Simulation, attempt: int = 1) -> str | None:
    """Return the checkpoint that the pods of an attempt are told to start from."""
    owner = sim.world.cluster.objects[sim.key]["metadata"]["name"]
    (job,) = (
        job for job in sim.world.cluster.of_kind("Job") if attempt_of(job) == attempt and run_of(job).name == owner
    )
    resume = run_of(job).training.resume
    assert resume is not None
    assert resume.from_.training_job is None
    return resume.from_.checkpoint


def uri(uid: str, step: int) -> str:
    return f"s3://models/team/{checkpoint_prefix(NAMESPACE, uid, step)}"


def test_it_waits_for_a_job_that_is_not_there_and_starts_when_that_has_ended() -> None:
    sim = Simulation({**RECIPE, **FROM_SOURCE})
    sim.world.settle()
    assert sim.ready == ("False", "ResumeSourceNotFound")
    assert message(sim) == "there is no TrainingJob source in the namespace team to start from"
    assert sim.world.cluster.of_kind("Job") == []
    uid = add_source(sim, RECIPE, 3)
    sim.until_pods_run()
    sim.world.step()
    assert sim.ready == ("False", "ResumeSourceNotEnded")
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert starting_from(sim) == uri(uid, 3)


def test_it_takes_the_newest_checkpoint_that_is_complete_and_says_which() -> None:
    sim = Simulation({**RECIPE, **FROM_SOURCE})
    uid = add_source(sim, RECIPE, 9, 10, 100)
    for step in range(101, 111):
        sim.world.bucket.write(f"{checkpoint_prefix(NAMESPACE, uid, step)}state.json", {})
    sim.world.settle()
    assert sim.status["startedFrom"] == {"trainingJob": "source", "uid": uid, "step": 100, "uri": uri(uid, 100)}
    assert starting_from(sim) == uri(uid, 100)


def test_a_later_job_of_the_same_name_is_another_job() -> None:
    sim = Simulation({**RECIPE, **FROM_SOURCE})
    uid = add_source(sim, RECIPE, 3)
    sim.until(lambda: bool(sim.status.get("attempts")))
    sim.world.remove(SOURCE)
    sim.world.step()
    assert add_source(sim, RECIPE, 5) != uid
    sim.until(lambda: bool(sim.status.get("progress")))
    sim.trainer.fail("evicted")
    sim.world.settle()
    assert sim.status["restarts"] == 1
    assert [starting_from(sim, number) for number in (1, 2)] == [uri(uid, 3)] * 2


def test_what_it_starts_from_is_written_down_before_a_pod_is_told() -> None:
    sim = Simulation({**RECIPE, **FROM_SOURCE})
    add_source(sim, RECIPE, 3)
    sim.until(lambda: any("apply Job a-" in words for words in sim.world.writes))
    pinned = next(status for status in sim.world.statuses[sim.key] if "startedFrom" in status)
    assert "attempt" not in pinned
    (entry,) = (entry for entry in pinned["conditions"] if entry["type"] == "Ready")
    assert entry["message"] == "it starts from the checkpoint of step 3 of TrainingJob source"


def test_an_old_view_of_itself_does_not_choose_anew() -> None:
    sim = Simulation({**RECIPE, **FROM_SOURCE, "suspend": True})
    uid = add_source(sim, RECIPE, 3)
    sim.until(lambda: "startedFrom" in sim.status)
    before = sim.world.cluster.history[sim.key][0][0]
    sim.world.remove(SOURCE)
    sim.world.step()
    add_source(sim, RECIPE, 5)
    sim.world.settle()
    # Nothing of what it wrote is seen by the next process.
    sim.world.faults.forgetful = True
    sim.world.faults.frozen = {"TrainingJob": before, "Job": before}
    sim.world.crash()
    sim.world.run(3)
    sim.world.faults.forgetful = False
    sim.world.faults.frozen = {}
    sim.world.crash()
    sim.world.settle()
    assert sim.status["startedFrom"]["uid"] == uid


NETWORK = RECIPE["recipe"]["tabular"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"recipe": {"tabular": {**NETWORK, "target": "z"}}}, "has other target than this job"),
        ({"recipe": {"tabular": {**NETWORK, "task": "Regression"}}, "model": {"name": "m"}}, "has other task"),
        ({"recipe": {"tabular": {**NETWORK, "features": ["b", "a"]}}}, "has other features than this job"),
        ({"recipe": {"tabular": {**NETWORK, "neuralNetwork": {"hiddenUnits": 8}}}}, "has other hiddenUnits"),
        ({"recipe": {"tabular": {**NETWORK, "neuralNetwork": {"hiddenLayers": 1}}}}, "has other hiddenLayers"),
        (
            {"recipe": {"tabular": {**NETWORK, "algorithm": "LightGBM"}}, "workers": {"replicas": 1}},
            "trains LightGBM, which cannot be gone on with",
        ),
    ],
)
def test_a_job_of_another_recipe_is_refused_with_the_difference(source: dict[str, Any], why: str) -> None:
    sim = Simulation({**RECIPE, **FROM_SOURCE})
    add_source(sim, {**RECIPE, **source}, 3)
    sim.world.settle()
    assert sim.ready == ("False", "WarmStartImpossible")
    assert message(sim).startswith(f"TrainingJob source {why}")
    assert message(sim).endswith("its weights would mean something else here")
    assert sim.world.condition(sim.key, "Succeeded") == ("False", "WarmStartImpossible")


@pytest.mark.parametrize(("mine", "theirs"), [(RECIPE, COMMAND), (COMMAND, RECIPE)])
def test_a_recipe_and_a_command_cannot_go_on_with_each_other(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    sim = Simulation({**mine, **FROM_SOURCE})
    add_source(sim, theirs, 3)
    sim.world.settle()
    assert sim.ready == ("False", "WarmStartImpossible")


def test_the_order_of_features_and_the_way_of_learning_make_no_difference() -> None:
    table = {**NETWORK, "features": ["b", "a"]}
    theirs = {**NETWORK, "features": ["a", "b"], "neuralNetwork": {"learningRate": 0.1, "epochs": 3}}
    sim = Simulation({**RECIPE, **FROM_SOURCE, "recipe": {"tabular": table}})
    add_source(sim, {**RECIPE, "recipe": {"tabular": theirs}}, 3)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")


def test_a_job_that_ended_without_a_checkpoint_ends_those_that_wait_for_it() -> None:
    sim = Simulation({**RECIPE, **FROM_SOURCE})
    add_source(sim, RECIPE)
    sim.world.settle()
    assert sim.ready == ("False", "WarmStartImpossible")
    assert message(sim) == "TrainingJob source has ended without a complete checkpoint in s3://models/team"
    assert not sim.status.get("attempts")


def test_checkpoints_on_another_server_cannot_be_read_with_this_jobs_secret() -> None:
    sim = Simulation({**RECIPE, **FROM_SOURCE})
    elsewhere = {"uri": "s3://other/team", "endpoint": "http://minio:9000", "secretName": "s3"}
    add_source(sim, {**RECIPE, "storage": elsewhere}, 3)
    sim.world.settle()
    assert message(sim) == "TrainingJob source keeps its checkpoints on another server than this job"


def test_a_source_in_another_bucket_is_read_there() -> None:
    sim = Simulation({**RECIPE, **FROM_SOURCE})
    uid = add_source(sim, {**RECIPE, "storage": {"uri": "s3://other/models"}}, 3)
    sim.world.settle()
    assert starting_from(sim) == f"s3://other/models/{checkpoint_prefix(NAMESPACE, uid, 3)}"


def test_a_store_that_does_not_answer_is_waited_for() -> None:
    sim = Simulation({**COMMAND, **FROM_SOURCE})
    uid = add_source(sim, COMMAND, 3)
    sim.world.bucket.errors_ahead = 2
    sim.until(lambda: sim.ready == ("False", "StorageUnavailable"))
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert starting_from(sim) == uri(uid, 3)


def test_a_job_cannot_start_from_itself() -> None:
    sim = Simulation({**RECIPE, "resume": {"from": {"trainingJob": "a"}}})
    sim.world.settle()
    assert sim.ready == ("False", "InvalidSpec")
    assert message(sim).startswith("spec.resume.from.trainingJob: ")
