"""A TrainingJob against everything that a cluster can do to it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import event, example, given, note
from hypothesis import strategies as st

from modelwright.api.layout import checkpoint_prefix
from modelwright.plan.attempts import finished
from modelwright.registry.errors import Superseded
from tests.simulation import chaos
from tests.simulation.chaos import Chaos, Fault, faults
from tests.simulation.cluster import key_of
from tests.simulation.nodes import Kueue
from tests.simulation.one_job import COMMAND, LOGGED_COMMAND, RAY, RECIPE, Simulation
from tests.simulation.one_owner import (
    FINAL,
    MAX_RESTARTS,
    SPENDING,
    assert_every_failed_write_is_made_good,
    assert_no_crash_changes_anything,
    prepare,
)
from tests.simulation.profile import PROFILE, TIMEOUT
from tests.simulation.world import NAMESPACE, one_attempt_runs

pytestmark = pytest.mark.timeout(TIMEOUT)

QUEUED = {"kueue.x-k8s.io/queue-name": "gpus"}
KINDS = ("TrainingJob", "Job", "Pod", "Service")
BROKEN = ("pod fails: exit", "pod fails: killed", "dies after result")
"""What a program may do to itself, twice at the same step."""
CUT_OFF = ("node lost", "node vanishes", "kubelet silent")
"""After which nobody can tell whether a pod has ended."""
DEEDS = sorted(Simulation().deeds())


def assert_end(sim: Simulation, suffered: list[str]) -> None:
    """Check that a job ended as it had to, given what it suffered, and that nothing moves any more."""
    status, reason = sim.ready
    event(reason)
    spent = sum(1 for name in suffered if name in SPENDING)
    paid = spent - suffered.count("pod fails: preempted") + suffered.count("dies after result")
    ends = {("True", "Succeeded")}
    ends |= {("False", "DataInvalid")} if FINAL in suffered else set()
    ends |= (
        {("False", "RestartsExhausted")} if paid > MAX_RESTARTS or suffered.count("pod fails: memory") > 1 else set()
    )
    ends |= {("False", "FailureRepeated")} if sum(map(suffered.count, BROKEN)) > 1 else set()
    assert (status, reason) in ends
    losses = [entry for entry in sim.status.get("attempts", ()) if entry.get("reason") not in (None, "Completed")]
    assert len(losses) <= spent + suffered.count("dies after result"), "each loss has a cause"
    documents = sim.world.bucket.documents
    begun = [key for key, text in documents.items() if key.endswith("model.json") and "attempt" in text]
    complete = [key for key in begun if key.replace("model.json", "manifest.json") in documents]
    assert len(complete) == (1 if reason == "Succeeded" else 0)
    cut_off = sum(1 for name in suffered if name in CUT_OFF)
    # One that goes on after a suspension may have a part that lives on, and later be lost itself.
    more = cut_off + suffered.count("suspended") if cut_off else 0
    assert len(begun) <= 1 + more, "all attempts share a number, but with those that may live on"
    sim.world.assert_steady()


@PROFILE
@given(st.sampled_from([RECIPE, RAY]), faults([*chaos.GENERAL, *DEEDS]))
def test_every_mix_of_faults_ends_as_it_must(spec: dict[str, Any], mix: list[Fault]) -> None:
    sim = Simulation(spec)
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds()})
    sim.world.invariants += [sim.the_end_is_final, sim.no_bucket_is_emptied, one_attempt_runs]
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm.done)
    assert len(sim.world.writes) <= 10 + 12 * len(mix)


@PROFILE
@given(faults([*chaos.GENERAL, *DEEDS, *(f"frozen {kind}" for kind in KINDS)]))
def test_watches_that_lag_do_no_harm(mix: list[Fault]) -> None:
    sim = Simulation()
    lagging = {f"frozen {kind}": chaos.freeze(kind) for kind in KINDS}
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds(), **lagging})
    sim.world.invariants += [sim.the_end_is_final, sim.no_bucket_is_emptied]
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    assert_end(sim, storm.done)


VIEWS = {"self": ("TrainingJob",), "Jobs": ("Job",), "children": ("Job", "Pod", "Service"), "everything": KINDS}
OLD = {f"old {name} {back}": chaos.rewind(kinds, back) for name, kinds in VIEWS.items() for back in (1, 5, 15)}


@PROFILE
@given(faults([*sorted(SPENDING), "suspended", "poke", "kill", *OLD], most=8))
@example([Fault(1, "suspended", 1), Fault(2, "job deleted", 1), Fault(2, "node lost", 1)])
def test_two_attempts_never_live_however_old_the_views_are(mix: list[Fault]) -> None:
    sim = Simulation()
    storm = Chaos(sim.world, {**chaos.GENERAL, **sim.deeds(), **OLD})
    storm.run(mix)
    note(f"writes: {sim.world.writes}")
    sim.world.assert_steady()


Scenario = Callable[[Simulation], None]
_IMPATIENT = {**RECIPE, "failurePolicy": {**RECIPE["failurePolicy"], "startupTimeoutSeconds": 60}}


def quietly(sim: Simulation) -> None:
    sim.world.settle()


def with_a_lost_worker(sim: Simulation) -> None:
    sim.until_pods_run()
    sim.trainer.fail("evicted")
    sim.world.settle()


def with_a_lost_node(sim: Simulation) -> None:
    sim.until_pods_run()
    sim.trainer.lose_node()
    sim.world.settle()


def with_a_vanished_node(sim: Simulation) -> None:
    sim.until_pods_run()
    sim.trainer.silence_node(gone=True)
    sim.world.settle()


def with_a_deleted_job(sim: Simulation) -> None:
    sim.until_pods_run()
    sim.trainer.delete_job()
    sim.world.settle()


def with_a_pause(sim: Simulation) -> None:
    sim.until_pods_run()
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()


def with_a_short_pause(sim: Simulation) -> None:
    sim.until_pods_run()
    sim.world.edit(sim.key, suspend=True)
    sim.world.step()
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()
    assert [entry["reason"] for entry in sim.status["attempts"]] == ["Completed"]


def with_a_pause_and_no_key_to_go_on_with(sim: Simulation) -> None:
    sim.until_pods_run()
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    bring_back = chaos.secret_missing(sim.world)
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()
    assert bring_back is not None
    bring_back()
    sim.world.settle()
    assert sim.status["restarts"] == 0


def with_a_pause_and_no_store_to_go_on_from(sim: Simulation) -> None:
    sim.until_pods_run()
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    sim.world.bucket.down = True
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()
    sim.world.bucket.down = False
    sim.world.settle()
    assert sim.status["restarts"] == 0


def against_a_champion(sim: Simulation) -> None:
    sim.deeds()["rival promoted"](sim.world)
    sim.world.settle()


def with_a_death_before_the_manifest(sim: Simulation) -> None:
    sim.until(lambda: bool(sim.trainer.begun))
    sim.trainer.fail("evicted")
    sim.world.settle()
    assert sim.status["restarts"] == 1
    assert set(sim.trainer.begun.values()) == {1}
    assert len(sim.trainer.begun) == 2


def with_an_attempt_that_lives_on(sim: Simulation) -> None:
    sim.until(lambda: bool(sim.trainer.begun))
    (first,) = sim.world.cluster.of_kind("Job")
    sim.trainer.lose_node()
    sim.until(lambda: len(sim.trainer.begun) == 2)
    # Its node is cut off from the API server, and from nothing else.
    sim.trainer.leave_result(first)
    sim.world.settle()
    assert sorted(sim.trainer.begun.values()) == [1, 2]
    assert sim.trainer.begun[first["metadata"]["uid"]] == 1
    assert (sim.ready, sim.status["unconfirmedAttempt"]) == (("True", "Succeeded"), 1)
    assert sim.status["model"]["version"] == 2
    with pytest.raises(Superseded):
        sim.trainer.begin_version(first)


def whose_job_is_cleaned_away(sim: Simulation) -> None:
    sim.until_pods_run()
    # The operator is away until the Job is gone.
    sim.world.act_unseen(10)
    (job,) = sim.world.cluster.of_kind("Job")
    assert finished(job)
    sim.world.remove(key_of(job))
    sim.world.settle()
    assert (sim.ready, sim.status["restarts"]) == (("True", "Succeeded"), 0)


def out_of_time_while_it_evaluates(sim: Simulation) -> None:
    sim.until(lambda: bool(sim.trainer.begun))
    (job,) = sim.world.cluster.of_kind("Job")
    sim.world.controllers.remove(sim.trainer)
    for pod in sim.world.cluster.of_kind("Pod"):
        sim.world.kubelets.lost.add(pod["metadata"]["uid"])
    sim.until(lambda: "deletionTimestamp" in job_now(sim, job)["metadata"])
    sim.trainer.leave_result(job)
    sim.world.settle()
    assert (sim.ready, sim.status["model"]["version"]) == (("True", "Succeeded"), 1)
    assert [entry["reason"] for entry in sim.status["attempts"]] == ["Completed"]


def job_now(sim: Simulation, job: dict[str, Any]) -> dict[str, Any]:
    return sim.world.cluster.get(key_of(job)) or job


def from_another_job(sim: Simulation) -> None:
    sim.world.settle()
    assert sim.ready == ("False", "ResumeSourceNotFound")
    source = sim.world.add("TrainingJob", "source", COMMAND)
    uid = sim.world.cluster.objects[source]["metadata"]["uid"]
    for step, name in ((6, "manifest.json"), (7, "manifest.json"), (8, "state.json")):
        sim.world.bucket.write(f"{checkpoint_prefix(NAMESPACE, uid, step)}{name}", {})
    sim.world.settle()
    assert (sim.ready, sim.status["startedFrom"]["step"]) == (("True", "Succeeded"), 7)


def with_a_late_start(sim: Simulation) -> None:
    sim.world.kubelets.obstacle = lambda pod: {
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]}
        ]
    }
    sim.until(lambda: any(entry.get("reason") == "StartTimeout" for entry in sim.status.get("attempts", ())))
    sim.world.kubelets.obstacle = None
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["failures"] == [{"failureClass": "StartupTimeout", "count": 1}]


def without_success(sim: Simulation) -> None:
    for _ in range(MAX_RESTARTS + 1):
        sim.until_pods_run()
        sim.trainer.fail("memory")
        sim.world.step()
    sim.world.settle()


SCENARIOS: dict[str, tuple[dict[str, Any], dict[str, str], Scenario]] = {
    "quiet": (RECIPE, {}, quietly),
    "ray": (RAY, {}, quietly),
    "command": (COMMAND, {}, with_a_lost_worker),
    "lost worker": (RECIPE, {}, with_a_lost_worker),
    "lost node": (RECIPE, {}, with_a_lost_node),
    "vanished node": (RECIPE, {}, with_a_vanished_node),
    "deleted Job": (RECIPE, {}, with_a_deleted_job),
    "pause": (RECIPE, {}, with_a_pause),
    "short pause": (RECIPE, {}, with_a_short_pause),
    "queued pause": (RECIPE, QUEUED, with_a_pause),
    "queued short pause": (RECIPE, QUEUED, with_a_short_pause),
    "keyless pause": (RECIPE, QUEUED, with_a_pause_and_no_key_to_go_on_with),
    "storeless pause": (RECIPE, QUEUED, with_a_pause_and_no_store_to_go_on_from),
    "half a version": (RECIPE, {}, with_a_death_before_the_manifest),
    "lives on": (RECIPE, {}, with_an_attempt_that_lives_on),
    "cleaned away": (LOGGED_COMMAND, {}, whose_job_is_cleaned_away),
    "out of time": ({**RECIPE, "activeDeadlineSeconds": 20}, {}, out_of_time_while_it_evaluates),
    "contest": (RECIPE, {}, against_a_champion),
    "warm start": ({**COMMAND, "resume": {"from": {"trainingJob": "source"}}}, {}, from_another_job),
    "late start": (_IMPATIENT, {}, with_a_late_start),
    "failure": (RECIPE, {}, without_success),
    "deleted when done": ({**RECIPE, "ttlSecondsAfterFinished": 60}, {}, quietly),
}


def play(name: str, crash_after: int | None = None, fates: tuple[str, ...] = ()) -> Simulation:
    spec, labels, scenario = SCENARIOS[name]
    sim = Simulation(spec, labels)
    prepare(sim, crash_after, fates)
    scenario(sim)
    return sim


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_after_any_write_changes_nothing(name: str) -> None:
    assert_no_crash_changes_anything(partial(play, name))


@pytest.mark.parametrize(("turn", "name"), list(enumerate(SCENARIOS)))
def test_a_write_that_fails_is_made_good(turn: int, name: str) -> None:
    assert_every_failed_write_is_made_good(partial(play, name), turn)


def test_a_quiet_run_writes_only_what_changes() -> None:
    sim = play("quiet")
    # Started with its first pods, training with progress, evaluating, and ended.
    assert [words for words in sim.world.writes if not words.startswith("status")] == [
        "apply Service a-d9df7",
        "apply Job a-d9df7-1",
        "move champion of titanic to 1",
    ]
    assert len(sim.world.statuses[sim.key]) == len(sim.world.writes) - 3 <= 5


def test_kueue_and_a_suspension_do_not_fight() -> None:
    sim = Simulation(RECIPE, QUEUED)
    kueue = Kueue(sim.world.cluster, quota=False)
    sim.world.controllers.append(kueue)
    sim.world.settle()
    assert sim.ready == ("False", "Queued")
    kueue.quota = True
    sim.until_pods_run()
    sim.world.edit(sim.key, suspend=True)
    sim.world.settle()
    assert sim.ready == ("False", "Suspended")
    assert sim.world.cluster.of_kind("Job") == []
    sim.world.edit(sim.key, suspend=False)
    sim.world.settle()
    assert sim.ready == ("True", "Succeeded")
    assert sim.status["restarts"] == 0
