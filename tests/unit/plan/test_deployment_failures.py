"""ModelDeployment: versions that do not load, things that are missing, and what people are told."""

import pytest

from modelwright.plan.actions import Rejection
from modelwright.plan.questions import Unavailable
from modelwright.plan.settings import Settings
from tests.unit.plan.deployment_world import DEADLINE, START, World, failure, plan

CORRUPT = failure("ModelLoadFailed", "model.onnx cannot be loaded", retryable=False)
NO_STORE = failure("StorageUnavailable", "the S3 server cannot be reached", retryable=True)


@pytest.fixture
def serving() -> World:
    world = World()
    world.settle(5)
    return world


def test_a_version_that_will_not_load_is_given_up_and_the_old_one_keeps_serving(serving: World):
    serving.broken[2] = CORRUPT
    serving.move_alias(2)
    serving.settle(3)
    assert list(serving.deployments) == ["churn-v1"]
    assert serving.selected == 1
    assert serving.status["serving"]["version"] == 1
    assert serving.status["failed"] == {
        "version": 2, "reason": "ModelLoadFailed", "message": "model.onnx cannot be loaded",
    }  # fmt: skip
    assert serving.reason == "RolloutFailed"
    assert serving.condition("Stalled")["status"] == "True"
    assert serving.condition("Available")["status"] == "True"
    assert serving.condition("Ready")["message"] == (
        "version 2 was given up (ModelLoadFailed: model.onnx cannot be loaded); version 1 keeps serving; "
        "move the alias, or change the spec to try again"
    )
    assert serving.events[-1] == "RolloutFailed"


def test_a_version_that_was_given_up_is_not_tried_again_by_itself(serving: World):
    serving.broken[2] = CORRUPT
    serving.move_alias(2)
    serving.settle(3)
    for _ in range(5):
        serving.wait(600)
        assert serving.reconcile().actions == ()
    assert serving.events.count("RolloutFailed") == 1


def test_a_change_of_the_spec_tries_it_again(serving: World):
    serving.broken[2] = CORRUPT
    serving.move_alias(2)
    serving.settle(3)
    del serving.broken[2]
    serving.change(server={"resources": {"limits": {"memory": "2Gi"}}})
    serving.settle(5)
    assert serving.status["serving"]["version"] == 2
    assert "failed" not in serving.status
    assert serving.reason == "Serving"


def test_another_target_forgets_the_failure_and_coming_back_tries_again(serving: World):
    serving.broken[2] = CORRUPT
    serving.move_alias(2)
    serving.settle(3)
    serving.move_alias(3)
    serving.reconcile()
    assert "failed" not in serving.status
    serving.move_alias(2)
    serving.reconcile()
    assert "churn-v2" in serving.deployments


def test_a_change_that_comes_with_the_crash_is_tried_before_it_is_judged(serving: World):
    serving.broken[2] = CORRUPT
    serving.move_alias(2)
    serving.reconcile()
    serving.tick()
    del serving.broken[2]
    serving.change(server={"image": "server:fixed"})
    serving.settle(6)
    assert serving.status["serving"]["version"] == 2


def test_servers_that_fall_over_without_a_word_are_given_up_after_three_restarts(serving: World):
    serving.broken[2] = ""
    serving.move_alias(2)
    for _ in range(3):
        serving.reconcile()
        serving.tick()
    assert serving.reconcile().status.get("failed") is None
    serving.tick()
    serving.reconcile()
    assert serving.status["failed"]["reason"] == "Crashed"
    assert "exit code 1" in serving.status["failed"]["message"]


def test_servers_that_run_out_of_memory_say_what_to_raise(serving: World):
    serving.broken[2] = ""
    serving.move_alias(2)
    for _ in range(4):
        serving.reconcile()
        serving.tick()
    for pod in serving.pods.values():
        for container in pod["status"].get("containerStatuses", ()):
            container["lastState"]["terminated"]["reason"] = "OOMKilled"
    serving.reconcile()
    assert serving.status["failed"]["reason"] == "OutOfMemory"
    assert "spec.server.resources.limits.memory" in serving.status["failed"]["message"]


def test_what_may_come_right_is_waited_for_until_the_deadline(serving: World):
    serving.broken[2] = NO_STORE
    serving.move_alias(2)
    serving.settle(5)
    assert serving.reason == "StorageUnavailable"
    assert serving.condition("Reconciling") is not None
    assert "churn-v2" in serving.deployments
    serving.wait(DEADLINE)
    serving.settle(2)
    assert serving.status["failed"]["reason"] == "StorageUnavailable"
    assert list(serving.deployments) == ["churn-v1"]


def test_with_nothing_else_to_serve_the_first_version_is_waited_for_past_the_deadline():
    world = World()
    world.broken[1] = NO_STORE
    world.settle(5)
    world.wait(DEADLINE)
    world.settle(2)
    assert world.reason == "StorageUnavailable"
    assert world.condition("Stalled") is not None
    del world.broken[1]
    world.settle(4)
    assert world.reason == "Serving"


def test_a_first_version_that_cannot_load_is_given_up_with_nothing_serving():
    world = World()
    world.broken[1] = CORRUPT
    world.settle(4)
    assert world.deployments == {}
    assert world.reason == "RolloutFailed"
    assert "nothing serves" in world.condition("Ready")["message"]
    assert world.condition("Available")["status"] == "False"


def test_a_change_of_the_serving_version_that_fails_leaves_its_old_servers():
    world = World(version=1)
    world.settle(5)
    world.broken[1] = ""
    world.change(model={"name": "churn-model", "version": 1}, server={"image": "server:broken"})
    world.settle(6)
    assert world.reason == "RollingOut"
    world.wait(DEADLINE)
    world.settle(2)
    assert world.ready(1) == 2
    assert list(world.deployments) == ["churn-v1"]
    assert world.reason == "RolloutFailed"
    assert "its old servers keep serving" in world.condition("Ready")["message"]
    assert world.condition("Available")["status"] == "True"


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes: too few cpu"}]},
            "Unschedulable",
            "0/1 nodes: too few cpu",
        ),
        (
            {"containerStatuses": [{"image": "server:1", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
            "ImagePullFailed",
            "server:1 cannot be pulled",
        ),
        (
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no x"}}}
                ]
            },
            "ContainerConfigInvalid",
            "no x",
        ),
    ],
)
def test_pods_that_cannot_start_are_explained(status: dict, reason: str, words: str):
    world = World()
    world.reconcile()
    world.tick()
    for pod in world.pods.values():
        pod["status"] = status
    world.deployments["churn-v1"]["status"]["readyReplicas"] = 0
    world.reconcile()
    assert world.reason == reason
    assert words in world.condition("Ready")["message"]


def test_an_alias_that_nobody_holds_is_said_and_waited_for():
    world = World()
    held = world.documents.pop("models/churn-model/aliases/champion.json")
    plan = world.reconcile()
    assert (world.reason, world.deployments, world.service) == ("ModelNotFound", {}, None)
    assert "no version of model churn-model holds the alias champion" in world.condition("Stalled")["message"]
    assert plan.wake_after == 60
    world.documents["models/churn-model/aliases/champion.json"] = held
    world.settle(4)
    assert world.reason == "Serving"


def test_a_version_that_does_not_exist_leaves_the_last_good_one_alone(serving: World):
    serving.move_alias(77)
    serving.settle(3)
    assert serving.reason == "ModelNotFound"
    assert serving.status["targetVersion"] == 77
    assert list(serving.deployments) == ["churn-v1"]
    assert serving.condition("Available")["status"] == "True"
    assert "there is no version 77 of model churn-model in s3://models/team" in serving.condition("Ready")["message"]


def test_an_alias_that_vanishes_or_is_spoilt_leaves_the_last_good_version(serving: World):
    serving.documents["models/churn-model/aliases/champion.json"] = {"version": "x"}
    serving.settle(2)
    assert serving.reason == "ModelNotFound"
    assert serving.selected == 1
    assert serving.ready(1) == 2


def test_a_missing_secret_is_named():
    world = World()
    world.secrets.clear()
    for key in world.documents:
        world.documents[key] = Unavailable("Secret shop/s3-keys does not exist: create it")
    plan = world.reconcile()
    assert world.reason == "SecretNotFound"
    assert "Secret s3-keys does not exist" in world.condition("Stalled")["message"]
    assert plan.wake_after == 60
    assert plan.actions == ()


def test_a_store_that_is_down_before_the_first_version_is_not_the_users_mistake():
    world = World()
    for key in world.documents:
        world.documents[key] = Unavailable("the S3 server cannot be reached")
    world.reconcile()
    assert world.reason == "StorageUnavailable"
    assert world.condition("Reconciling") is not None
    assert world.condition("Stalled") is None


def test_no_storage_anywhere_is_said():
    decision = plan(World().observe(), Settings("runtime:1", "server:1"), START)
    assert decision.status["conditions"][0]["reason"] == "StorageNotConfigured"
    assert decision.actions == ()


def test_a_spec_that_cannot_be_read_is_said_and_changes_nothing(serving: World):
    serving.change(replicas="many")
    decision = serving.reconcile()
    assert serving.reason == "InvalidSpec"
    assert serving.condition("Ready")["message"].startswith("spec.replicas: ")
    assert decision.actions == ()
    assert serving.condition("Available")["status"] == "True"
    assert serving.status["serving"]["version"] == 1


def test_a_child_that_the_api_server_refuses_is_said_while_the_old_version_serves(serving: World):
    serving.move_alias(2)
    serving.rejection = Rejection("apply Deployment churn-v2", "exceeded quota")
    serving.reconcile()
    assert serving.reason == "ChildRejected"
    assert serving.condition("Ready")["message"] == "apply Deployment churn-v2 was refused: exceeded quota"
    assert serving.condition("Available")["status"] == "True"


def test_a_status_from_another_version_of_the_software_is_no_obstacle(serving: World):
    serving.mdep["status"] = {"serving": "v1", "conditions": []}
    serving.settle(2)
    assert serving.reason == "Serving"
