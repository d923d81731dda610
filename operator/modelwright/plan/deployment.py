"""ModelDeployment: bring up the wanted version beside the one that serves, and switch when all of its servers answer.

Every version has a Deployment of its own, and the Service's selector says which one gets the requests. So a version
that does not load disturbs nobody, and the change itself is one write. The old servers stay for a while after it, until
every node has heard of the change, and then drain on their own.
"""

from datetime import datetime

from pydantic import ValidationError

from modelwright.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus
from modelwright.plan import rejections
from modelwright.plan.actions import AliasWatch, Ask, Event, Plan, Watch
from modelwright.plan.conditions import Reason, State, Verdict, conditions
from modelwright.plan.events import on_change
from modelwright.plan.fleet import fleets
from modelwright.plan.observed import Observed
from modelwright.plan.rollout import Rollout, Scene, actions, decide, drain_left, superseded
from modelwright.plan.serving_objects import url
from modelwright.plan.settings import Settings
from modelwright.plan.target import LOOK_AGAIN, resolve
from modelwright.plan.validation import sentence, status_before

_REASONS = frozenset(reason.value for reason in Reason)


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan | Ask:
    """Return what to do about a ModelDeployment, or what must be known first."""
    before = status_before(ModelDeploymentStatus, observed.object)
    try:
        spec = ModelDeploymentSpec.model_validate(observed.object["spec"])
    except ValidationError as error:
        return _invalid(observed, before, sentence(error), now)
    known = fleets(observed)
    target = resolve(observed, spec, settings, before.target_version, set(known))
    if isinstance(target, Ask):
        return target
    scene = Scene(observed, spec, before, target, known, now)
    rollout = decide(scene)
    status = _status(scene, rollout)
    return Plan(
        status=status.document(),
        actions=actions(scene, rollout, settings),
        events=(*_switched(scene, rollout), *on_change(before.conditions, status.conditions)),
        wake_after=_wake_after(scene, rollout),
        watches=_watches(scene),
    )


def _invalid(observed: Observed, before: ModelDeploymentStatus, message: str, now: datetime) -> Plan:
    generation = observed.object["metadata"].get("generation")
    found = conditions(
        Verdict(State.STALLED, Reason.INVALID_SPEC, message),
        generation=generation,
        before=before.conditions,
        now=now,
        # Whatever serves goes on serving.
        extra=[(c.type, c.status == "True", c.reason, c.message) for c in before.conditions if c.type == "Available"],
    )
    status = before.model_copy(update={"observed_generation": generation, "conditions": found})
    return Plan(status.document(), events=on_change(before.conditions, found))


def _status(scene: Scene, rollout: Rollout) -> ModelDeploymentStatus:
    fleet = scene.fleets.get(rollout.selected) if rollout.selected is not None else None
    return ModelDeploymentStatus(
        observed_generation=scene.generation,
        conditions=conditions(
            _verdict(scene, rollout),
            generation=scene.generation,
            before=scene.before.conditions,
            now=scene.now,
            extra=(_available(scene, rollout),),
        ),
        url=url(scene.owner),
        serving=rollout.serving,
        target_version=scene.target.version,
        replicas=fleet.total if fleet else 0,
        ready_replicas=fleet.ready if fleet else 0,
        failed=rollout.failed,
    )


def _verdict(scene: Scene, rollout: Rollout) -> Verdict:
    if scene.target.trouble is not None:
        return scene.target.trouble
    if scene.observed.rejection is not None:
        return rejections.of(scene.observed.rejection)
    if rollout.failed is not None:
        return _given_up(scene, rollout)
    name = f"version {scene.target.version} of {scene.spec.model.name}"
    fleet = scene.fleets.get(scene.target.version or 0)
    complaint = fleet.complaint if fleet else None
    if fleet is not None and rollout.selected == fleet.version and fleet.settled(scene.spec.replicas):
        return Verdict(State.READY, Reason.SERVING, f"{name} serves on {fleet.ready} of {fleet.ready} servers")
    if fleet is not None and fleet.overdue:
        return _overdue(name, complaint, established=scene.served == fleet.version)
    reason = Reason.DEPLOYING if scene.served is None else Reason.ROLLING_OUT
    progress = f"{name}: {scene.ready(scene.target.version)} of {scene.spec.replicas} servers are ready"
    if complaint is None:
        return Verdict(State.RECONCILING, reason, progress)
    why, message = complaint
    known = why if why in _REASONS else reason
    return Verdict(State.RECONCILING, known, f"{progress}; {message}")


def _given_up(scene: Scene, rollout: Rollout) -> Verdict:
    failed = rollout.failed
    assert failed is not None  # noqa: S101 (the caller has looked)
    keeps = f"version {rollout.serving.version} keeps serving" if rollout.serving else "nothing serves"
    hint = "move the alias, or change the spec to try again"
    if scene.spec.model.version is not None:
        hint = "name another version, or change the spec to try again"
    message = f"version {failed.version} was given up ({failed.reason}: {failed.message}); {keeps}; {hint}"
    return Verdict(State.STALLED, Reason.ROLLOUT_FAILED, message)


def _overdue(name: str, complaint: tuple[str, str] | None, *, established: bool) -> Verdict:
    why, message = complaint or (Reason.ROLLOUT_FAILED, "servers were not ready in time: see the logs of its pods")
    if established:
        message = f"the change of {name} does not get ready, its old servers keep serving: {message}"
        return Verdict(State.STALLED, Reason.ROLLOUT_FAILED, message)
    known = why if why in _REASONS else Reason.ROLLOUT_FAILED
    return Verdict(State.STALLED, known, f"{name} does not get ready: {message}")


def _available(scene: Scene, rollout: Rollout) -> tuple[str, bool, str, str]:
    if scene.ready(rollout.selected):
        return "Available", True, "Serving", f"version {rollout.selected} answers"
    return "Available", False, "NoServerReady", "no server is ready to answer"


def _switched(scene: Scene, rollout: Rollout) -> tuple[Event, ...]:
    before, after = scene.before.serving, rollout.serving
    if before is None or after is None or (before.name, before.version) == (after.name, after.version):
        return ()
    message = f"version {after.version} of {after.name} takes the requests, after version {before.version}"
    return (Event("Normal", "Switched", message),)


def _wake_after(scene: Scene, rollout: Rollout) -> float | None:
    times = []
    if scene.spec.model.alias is not None or scene.target.trouble is not None:
        times.append(LOOK_AGAIN)
    left = drain_left(scene, rollout)
    if left > 0 and superseded(scene, rollout):
        times.append(left)
    return min(times, default=None)


def _watches(scene: Scene) -> tuple[Watch, ...]:
    model, store = scene.spec.model, scene.target.store
    if model.alias is None or store is None:
        return ()
    return (AliasWatch(store.storage.uri, model.name, model.alias),)
