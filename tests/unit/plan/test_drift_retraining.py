import pytest

from modelwright.api.driftpolicy import IncidentOutcome, Trigger
from modelwright.plan.actions import Rejection
from modelwright.plan.incidents import KEPT, REMEMBERED
from modelwright.plan.observed import Alert
from modelwright.plan.questions import Unavailable
from tests.unit.plan.drift_world import MOVED, STILL, TEMPLATE, World, alert

DAY = 86400


def on_alerts(**spec: object) -> World:
    return World(test=None, **spec)


def drifting(**spec: object) -> World:
    world = World(test={"intervalSeconds": 60, "consecutive": 1}, **spec)
    world.traffic(MOVED)
    return world


def test_an_alert_creates_one_training_job_from_the_template() -> None:
    world = on_alerts()
    plan = world.look(alert())

    (job,) = world.created
    assert job["kind"] == "TrainingJob"
    assert job["spec"] == TEMPLATE
    meta = job["metadata"]
    assert meta["name"] == f"delay-policy-{world.incident.id}"
    assert meta["labels"]["modelwright.dev/owner-uid"] == "policy-uid"
    assert meta["ownerReferences"][0]["uid"] == "policy-uid"
    assert meta["annotations"]["modelwright.dev/trigger"] == "DriftPolicy/delay-policy alert ModelError"
    assert (world.incident.outcome, world.incident.training_job) == (IncidentOutcome.RETRAINING, meta["name"])
    assert world.condition("Reconciling") == ("True", "Retraining")
    assert [event.reason for event in plan.events] == ["RetrainingStarted"]


def test_a_retraining_waits_in_the_queue_of_its_policy() -> None:
    world = on_alerts()
    world.policy["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "ml"}
    world.look(alert())
    assert world.created[0]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "ml"


def test_a_notification_that_comes_twice_changes_nothing() -> None:
    world = on_alerts()
    world.look(alert())
    writes = world.status_writes
    world.forward(15)
    plan = world.look(alert())

    assert (len(world.created), world.status_writes, plan.events) == (1, writes, ())


def test_an_alert_that_goes_on_after_its_retraining_is_not_retrained_for_ever() -> None:
    world = on_alerts(retraining={"template": TEMPLATE, "cooldownSeconds": 0})
    world.look(alert())
    world.finish(world.created[0]["metadata"]["name"], "NotBetter")
    world.forward(4 * 3600)
    world.look(alert())

    assert len(world.created) == 1
    assert world.incident.outcome is IncidentOutcome.NOT_BETTER


def test_an_alert_that_fires_again_is_another_incident() -> None:
    world = on_alerts()
    world.look(alert())
    world.finish(world.created[0]["metadata"]["name"], "Promoted")
    world.forward(7200)
    world.look(alert(starts_at="2026-11-23T11:59:00Z"))

    assert len(world.created) == 2
    assert [entry.outcome.value for entry in world.status.incidents] == ["Retraining", "Promoted"]


def test_drift_creates_one_training_job_per_episode() -> None:
    world = drifting()
    world.look()
    (job,) = world.created
    assert world.incident.trigger is Trigger.DRIFT
    assert job["metadata"]["annotations"]["modelwright.dev/trigger"] == (
        "DriftPolicy/delay-policy drift of version 1 in age"
    )
    world.finish(job["metadata"]["name"], "NotBetter", message="0.71 against 0.72")
    for _ in range(3):
        world.forward(7200)
        world.look()
    assert len(world.created) == 1
    assert world.condition("Ready") == ("True", "Drifted")
    assert world.message().endswith("retraining: NotBetter, 0.71 against 0.72")

    world.traffic(STILL)
    world.forward(60)
    world.look()
    world.traffic(MOVED)
    world.forward(60)
    world.look()
    assert len(world.created) == 2


@pytest.mark.parametrize(
    ("outcome", "recorded"),
    [
        ("Promoted", IncidentOutcome.PROMOTED),
        ("NotBetter", IncidentOutcome.NOT_BETTER),
        ("Superseded", IncidentOutcome.SUPERSEDED),
    ],
)
def test_the_gate_s_decision_is_the_outcome_of_the_incident(outcome: str, recorded: IncidentOutcome) -> None:
    world = on_alerts()
    world.look(alert())
    world.finish(world.created[0]["metadata"]["name"], outcome, message="because")
    plan = world.look()

    assert (world.incident.outcome, world.incident.message, world.incident.version) == (recorded, "because", 2)
    assert [event.reason for event in plan.events] == [f"Retraining{outcome}"]
    assert world.condition("Ready") == ("True", "Watching")
    assert world.look().events == ()


def test_a_retraining_without_a_gate_registers_a_version_and_says_so() -> None:
    world = on_alerts()
    world.look(alert())
    world.finish(world.created[0]["metadata"]["name"])
    world.look()

    assert (world.incident.outcome, world.incident.version) == (IncidentOutcome.REGISTERED, 2)


def test_a_retraining_that_fails_tells_why() -> None:
    world = on_alerts()
    world.look(alert())
    world.fail(world.created[0]["metadata"]["name"], "DataInvalid", "column y is missing")
    plan = world.look()

    assert world.incident.outcome is IncidentOutcome.FAILED
    assert world.incident.message == "DataInvalid: column y is missing"
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", "RetrainingFailed")]


def test_a_retraining_that_somebody_deletes_has_failed() -> None:
    world = on_alerts()
    world.look(alert())
    world.jobs.clear()
    world.look()

    assert world.incident.outcome is IncidentOutcome.FAILED
    assert "was deleted" in world.incident.message


def test_a_job_that_the_cache_does_not_show_yet_is_not_taken_for_deleted() -> None:
    world = on_alerts()
    world.look(alert())
    world.hidden_jobs = set(world.jobs)
    world.look(alert("f2"))

    assert [entry.outcome.value for entry in world.status.incidents].count("Retraining") == 1
    assert len(world.created) == 1


def test_two_alerts_at_once_are_two_incidents_and_one_retraining() -> None:
    world = on_alerts()
    world.look(alert("f1"), alert("f2"))

    assert len(world.created) == 1
    assert sorted(entry.outcome.value for entry in world.status.incidents) == ["Cooldown", "Retraining"]


def test_while_a_retraining_runs_no_other_starts_even_without_a_cooldown() -> None:
    world = on_alerts(retraining={"template": TEMPLATE, "cooldownSeconds": 0})
    world.look(alert())
    world.forward(600)
    world.look(alert("f2"))

    assert len(world.created) == 1
    assert "one retraining at a time" in world.status.incidents[0].message


def test_within_the_cooldown_an_incident_is_recorded_once_and_starts_nothing_by_itself() -> None:
    world = on_alerts()
    world.look(alert())
    world.finish(world.created[0]["metadata"]["name"], "Promoted")
    world.forward(600)
    world.look(alert("f2"))
    writes = world.status_writes
    assert world.status.incidents[0].outcome is IncidentOutcome.COOLDOWN

    world.forward(60)
    world.look(alert("f2"))
    world.forward(DAY)
    world.look()
    assert (len(world.created), world.status_writes) == (1, writes)


def test_a_notification_repeated_after_the_cooldown_starts_the_retraining() -> None:
    world = on_alerts()
    world.look(alert())
    world.finish(world.created[0]["metadata"]["name"], "Promoted")
    world.forward(600)
    world.look(alert("f2"))
    first_seen = world.status.incidents[0].time
    world.forward(4 * 3600)
    world.look(alert("f2"))

    assert len(world.created) == 2
    assert (world.status.incidents[0].outcome, world.status.incidents[0].time) == (
        IncidentOutcome.RETRAINING,
        first_seen,
    )


def test_drift_that_lasts_beyond_the_cooldown_is_retrained_by_the_next_test() -> None:
    world = drifting()
    world.look(alert())
    world.finish(world.created[0]["metadata"]["name"], "NotBetter")
    for _ in range(3):
        world.forward(1300)
        world.look()

    assert len(world.created) == 2


def test_no_more_retrainings_start_in_a_day_than_allowed_even_when_their_jobs_are_gone() -> None:
    world = on_alerts(retraining={"template": TEMPLATE, "cooldownSeconds": 0, "maxPerDay": 2})
    for number in range(4):
        world.look(alert(f"f{number}"))
        for name in world.jobs:
            world.finish(name, "NotBetter")
        world.look()
        world.jobs.clear()
        world.forward(600)

    assert len(world.created) == 2
    assert world.status.incidents[0].outcome is IncidentOutcome.LIMIT_REACHED
    world.forward(DAY)
    world.look(alert("f3"))
    assert len(world.created) == 3
    assert len(world.status.retraining_times) == 1


def test_a_retraining_of_which_status_knows_nothing_is_remembered_from_its_job() -> None:
    world = on_alerts()
    world.look(alert(), write=False)
    assert "status" not in world.policy
    world.forward(30)
    world.look(alert(), alert("f2"))

    assert len(world.created) == 1
    assert {entry.outcome.value for entry in world.status.incidents} == {"Retraining", "Cooldown"}
    assert world.status.last_retraining_time == "2026-11-23T10:00:00Z"


def test_a_drift_episode_keeps_its_job_when_the_operator_dies_before_it_writes_status() -> None:
    world = drifting()
    world.look(write=False)
    world.forward(7)
    world.look()

    assert len(world.created) == 1
    assert world.incident.outcome is IncidentOutcome.RETRAINING
    assert world.status.drift is not None
    assert world.status.drift.since == "2026-11-23T10:00:00Z"


def test_an_old_view_of_the_policy_does_not_overrun_its_budget() -> None:
    world = on_alerts()
    before = {**world.policy}
    world.look(alert())
    world.finish(world.created[0]["metadata"]["name"], "Promoted")
    world.look()
    current, jobs = world.policy, world.jobs
    world.policy, world.jobs = before, {}
    answered = world._answer
    world._answer = lambda question: current if "DriftPolicy" in repr(question) else answered(question)  # type: ignore[method-assign]
    world.look(alert("f2"))

    assert jobs
    assert len(world.created) == 1


def test_no_budget_is_judged_while_the_api_server_does_not_answer() -> None:
    world = on_alerts(retraining={"template": TEMPLATE, "cooldownSeconds": 0})
    world.look(alert())
    running = world.created[0]["metadata"]["name"]
    world.hidden_jobs = {running}
    world.deaf = Unavailable("the API server does not answer")
    plan = world.look(alert("f2"))

    assert plan.actions == ()
    assert plan.postponed, "Alertmanager is not told that the alert was taken"
    assert plan.status == world.policy["status"]
    assert plan.wake_after is not None
    world.deaf = None
    assert not world.look(alert("f2")).postponed
    assert [entry.outcome for entry in world.status.incidents] == [IncidentOutcome.RETRAINING, IncidentOutcome.COOLDOWN]


def test_a_job_that_the_api_server_refuses_is_recorded_and_not_repeated() -> None:
    world = on_alerts()
    world.rejection = Rejection("create TrainingJob x", "exceeded quota")
    plan = world.look(alert())

    assert plan.actions == ()
    assert (world.incident.outcome, world.incident.training_job) == (IncidentOutcome.FAILED, None)
    assert world.incident.message == "the TrainingJob could not be created: exceeded quota"
    assert world.condition("Stalled") == ("True", "ChildRejected")
    assert world.message() == "create TrainingJob x was refused: exceeded quota"
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", "ChildRejected")]
    world.rejection = None
    world.forward(4 * 3600)
    world.look(alert())
    assert world.incident.outcome is IncidentOutcome.RETRAINING


@pytest.mark.parametrize("unanswered", [0, 3600])
@pytest.mark.parametrize("alerts", [(), (alert(),)])
def test_what_calls_for_a_retraining_waits_for_a_webhook_that_does_not_answer(
    alerts: tuple[Alert, ...], unanswered: float
) -> None:
    world = on_alerts() if alerts else drifting()
    world.rejection = Rejection("apply TrainingJob x", "failed calling webhook", unanswered)
    plan = world.look(*alerts)

    assert plan.actions == ()
    assert plan.postponed, "Alertmanager is not told that the alert was taken"
    assert (world.status.incidents, world.status.drift) == ((), None)
    assert world.condition("Ready") == ("False", "WebhookUnavailable" if unanswered == 0 else "ChildRejected")
    assert "failed calling webhook" in world.message()
    world.rejection = None
    assert not world.look(*alerts).postponed
    assert world.incident.outcome is IncidentOutcome.RETRAINING


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"retraining": None}, "only reports"),
        ({"retraining": {"template": TEMPLATE, "triggers": ["Drift"]}}, "Alert is not among"),
        ({"suspend": True}, "suspended"),
    ],
)
def test_an_alert_that_may_not_start_a_retraining_is_recorded_with_the_reason(
    spec: dict[str, object], says: str
) -> None:
    world = on_alerts(**spec)
    world.look(alert())

    assert world.incident.outcome is IncidentOutcome.NOT_TRIGGERED
    assert says in world.incident.message
    assert world.created == []


def test_alerts_are_dealt_with_even_where_no_test_can_be_made() -> None:
    world = World()
    world.deployment = None
    world.look(alert())

    assert len(world.created) == 1


def test_status_keeps_the_newest_incidents_and_never_drops_the_one_under_way() -> None:
    world = on_alerts()
    world.look(alert("first"))
    for number in range(KEPT + 5):
        world.forward(1)
        world.look(alert(f"later{number}"))

    kept = world.status.incidents
    assert len(kept) == KEPT
    assert kept[-1].outcome is IncidentOutcome.RETRAINING
    assert [entry.time for entry in kept] == sorted((entry.time for entry in kept), reverse=True)
    writes = world.status_writes
    world.look()
    assert world.status_writes == writes


def test_an_incident_that_status_has_no_room_for_gets_no_other_job() -> None:
    world = on_alerts(retraining={"template": TEMPLATE, "cooldownSeconds": 0, "maxPerDay": 1000})
    firing = [alert(f"f{number}") for number in range(KEPT + 5)]
    for _ in range(2 * len(firing)):
        world.look(*firing)
        for name in world.jobs:
            world.finish(name, "NotBetter")
        world.look()
        # As ttlSecondsAfterFinished has it.
        world.jobs.clear()
        world.forward(4 * 3600)

    names = [job["metadata"]["name"] for job in world.created]
    assert len(names) == len(set(names)) == len(firing)
    assert len(world.status.incidents) == KEPT


def test_an_episode_is_not_taken_for_one_that_status_has_no_room_for() -> None:
    world = drifting()
    world.look()
    world.finish(world.created[0]["metadata"]["name"], "NotBetter")
    world.traffic(STILL)
    world.forward(60)
    world.look(*(alert(f"f{number}") for number in range(KEPT)))
    assert Trigger.DRIFT not in {entry.trigger for entry in world.status.incidents}
    world.forward(7200)
    world.traffic(MOVED)
    world.look()
    assert len(world.created) == 2


def test_status_remembers_as_many_of_them_as_it_has_room_for() -> None:
    world = on_alerts()
    before = [f"i{number:03}" for number in range(REMEMBERED)]
    world.policy["status"] = {"retrained": before}
    world.look(alert())
    assert world.status.retrained == (*before[1:], world.incident.id)


def test_what_an_older_operator_has_retrained_for_is_remembered_too() -> None:
    world = on_alerts()
    world.look(alert())
    world.finish(world.created[0]["metadata"]["name"], "NotBetter")
    del world.policy["status"]["retrained"]
    world.jobs.clear()
    world.look()
    assert world.status.retrained == (world.incident.id,)


@pytest.mark.parametrize("written", ["{", '{"id": "a", "trigger": "Alert", "name": "b", "time": "now", "started": ""}'])
def test_a_job_whose_incident_cannot_be_read_still_counts_as_running(written: str) -> None:
    world = on_alerts()
    world.look(alert())
    for job in world.jobs.values():
        job["metadata"]["annotations"] = {"modelwright.dev/incident": written}
    del world.policy["status"]
    world.look(alert("f2"))

    assert len(world.created) == 1
    assert world.incident.outcome is IncidentOutcome.COOLDOWN


def test_a_long_policy_name_gives_a_job_name_that_fits() -> None:
    world = on_alerts()
    world.policy["metadata"]["name"] = "n" * 200
    answered = world._answer
    world._answer = lambda question: world.policy if "DriftPolicy" in repr(question) else answered(question)  # type: ignore[method-assign]
    world.look(alert())

    assert len(world.created[0]["metadata"]["name"]) <= 63
