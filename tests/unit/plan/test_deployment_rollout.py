"""ModelDeployment: from nothing to serving, and from one version to the next."""

import pytest

from modelwright.plan.actions import AliasWatch, Delete, Patch
from modelwright.plan.questions import Unavailable
from tests.unit.plan.deployment_world import DRAIN, Crash, World


@pytest.fixture
def serving() -> World:
    world = World()
    world.settle(5)
    return world


def test_the_first_version_is_brought_up_and_serves():
    world = World()
    plan = world.reconcile()
    assert list(world.deployments) == ["churn-v1"]
    assert world.reason == "Deploying"
    assert world.condition("Available")["status"] == "False"
    assert "serving" not in plan.status

    world.settle(4)
    assert world.reason == "Serving"
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Ready")["message"] == "version 1 of churn-model serves on 2 of 2 servers"
    assert world.status["url"] == "http://churn.shop.svc.cluster.local"
    assert world.status["serving"]["alias"] == "champion"
    assert (world.status["replicas"], world.status["readyReplicas"]) == (2, 2)
    assert world.events == ["Deploying", "Serving"]


def test_a_deployment_that_serves_writes_nothing_more(serving: World):
    before = serving.status
    assert serving.reconcile().actions == ()
    assert serving.status == before


def test_an_alias_is_watched_and_read_again_every_minute(serving: World):
    plan = serving.reconcile()
    assert plan.wake_after == 60
    assert plan.watches == (AliasWatch("s3://models/team", "churn-model", "champion"),)


def test_a_fixed_version_needs_no_storage_once_it_has_servers():
    world = World(version=4)
    world.settle(5)
    plan = world.reconcile()
    assert world.status["serving"]["version"] == 4
    assert world.questions == []
    assert plan.wake_after is None
    assert plan.watches == ()


def test_requests_move_only_when_every_server_of_the_new_version_is_ready(serving: World):
    serving.move_alias(2)
    serving.reconcile()
    serving.tick()
    serving.reconcile()
    assert serving.ready(2) == 1
    assert serving.selected == 1
    assert serving.reason == "RollingOut"
    assert serving.status["serving"]["version"] == 1
    assert serving.status["targetVersion"] == 2

    serving.tick()
    serving.reconcile()
    assert serving.selected == 2
    assert serving.reason == "Serving"
    assert serving.status["serving"]["version"] == 2
    assert serving.events[-3:] == ["RollingOut", "Switched", "Serving"]


def test_old_servers_answer_for_the_drain_time_after_the_switch(serving: World):
    serving.move_alias(2)
    for _ in range(2):
        serving.reconcile()
        serving.tick()
    plan = serving.reconcile()
    assert plan.wake_after == DRAIN + 1
    serving.wait(DRAIN)
    assert serving.reconcile().wake_after == 1
    assert serving.ready(1) == 2
    serving.wait(1)
    serving.reconcile()
    assert list(serving.deployments) == ["churn-v2"]


def test_going_back_to_a_version_that_is_still_warm_takes_one_write(serving: World):
    serving.move_alias(2)
    serving.settle(4)
    serving.move_alias(1)
    serving.reconcile()
    assert serving.selected == 1
    assert serving.reason == "Serving"
    assert [action.object["kind"] for action in serving.actions] == ["Service"]


def test_a_version_that_is_overtaken_before_it_was_ready_is_removed(serving: World):
    serving.move_alias(2)
    serving.reconcile()
    serving.move_alias(3)
    serving.reconcile()
    assert set(serving.deployments) == {"churn-v1", "churn-v3"}
    assert serving.selected == 1


def test_scaling_changes_the_deployment_in_place(serving: World):
    serving.change(replicas=3)
    serving.reconcile()
    assert serving.deployments["churn-v1"]["spec"]["replicas"] == 3
    assert serving.reason == "RollingOut"
    serving.settle(3)
    assert serving.status["readyReplicas"] == 3
    assert serving.reason == "Serving"


def test_new_resources_roll_through_the_same_version_without_a_gap(serving: World):
    serving.change(server={"resources": {"limits": {"memory": "1Gi"}}})
    for _ in range(6):
        serving.reconcile()
        serving.tick()
        assert serving.ready(1) >= 2
    serving.reconcile()
    assert serving.reason == "Serving"
    since = serving.status["serving"]["since"]
    assert since == serving.settle(2).status["serving"]["since"]


def test_the_version_on_its_way_out_is_scaled_but_keeps_its_pods(serving: World):
    serving.broken[2] = ""
    serving.move_alias(2)
    serving.change(replicas=4, server={"image": "server:2"})
    serving.reconcile()
    assert [type(action) for action in serving.actions if not hasattr(action, "object")] == [Patch]
    old = serving.deployments["churn-v1"]["spec"]
    assert old["replicas"] == 4
    assert old["template"]["spec"]["containers"][0]["image"] == "server:1"


@pytest.mark.parametrize("name", ["churn-v1", "churn-v2"])
def test_deleted_deployments_come_back(serving: World, name: str):
    serving.move_alias(2)
    serving.reconcile()
    serving.delete(name)
    serving.settle(6)
    assert serving.selected == 2
    assert serving.reason == "Serving"


def test_a_service_that_was_deleted_or_pointed_elsewhere_comes_back(serving: World):
    serving.service = None
    serving.reconcile()
    assert serving.selected == 1
    serving.service["spec"]["selector"]["modelwright.dev/version"] = "7"
    serving.reconcile()
    assert serving.selected == 1


def test_a_time_of_the_switch_that_somebody_edited_is_not_believed(serving: World):
    assert serving.service is not None
    serving.service["metadata"]["annotations"] = {"modelwright.dev/selected-since": "yesterday"}
    serving.settle(3)
    assert serving.reason == "Serving"
    assert serving.status["serving"]["since"].startswith("20")


def test_a_deployment_that_is_still_being_deleted_is_waited_for(serving: World):
    serving.deployments["churn-v1"]["metadata"]["deletionTimestamp"] = "2026-11-23T10:01:00Z"
    assert serving.reconcile().actions == ()
    assert serving.condition("Available")["status"] == "False"
    serving.delete("churn-v1")
    serving.settle(4)
    assert serving.reason == "Serving"


def test_while_the_store_is_down_the_last_wanted_version_goes_on(serving: World):
    serving.move_alias(2)
    serving.reconcile()
    for key in serving.documents:
        serving.documents[key] = Unavailable("the S3 server cannot be reached")
    serving.settle(4)
    assert serving.selected == 2
    assert serving.reason == "StorageUnavailable"
    assert serving.condition("Available")["status"] == "True"
    assert serving.condition("Reconciling")["message"] == "the S3 server cannot be reached"


def test_an_operator_that_dies_after_the_switch_does_not_switch_back(serving: World):
    serving.move_alias(2)
    for _ in range(2):
        serving.reconcile()
        serving.tick()
    decision = serving.decide()
    serving._carry_out(decision.actions[0])
    serving.move_alias(3)
    serving.reconcile()
    assert serving.selected == 2
    assert serving.status["serving"]["version"] == 2
    assert not any(isinstance(action, Delete) for action in serving.actions)


def test_servers_that_were_selected_for_a_moment_have_their_drain_time_though_nobody_recorded_it(serving: World):
    serving.wait(60)
    serving.move_alias(2)
    for _ in range(2):
        serving.reconcile()
        serving.tick()
    for version in (2, 1):
        serving.move_alias(version)
        with pytest.raises(Crash):
            serving.reconcile(crash_after=1)
        assert serving.selected == version
    assert serving.reconcile().wake_after == DRAIN + 1
    assert serving.ready(2) == 2
    serving.wait(DRAIN + 1)
    serving.reconcile()
    assert list(serving.deployments) == ["churn-v1"]


def test_where_nobody_answers_the_service_stays_where_it_is(serving: World):
    serving.move_alias(2)
    for _ in range(2):
        serving.reconcile()
        serving.tick()
    with pytest.raises(Crash):
        serving.reconcile(crash_after=1)
    for deployment in serving.deployments.values():
        deployment["status"]["readyReplicas"] = 0
    serving.reconcile()
    assert serving.selected == 2
