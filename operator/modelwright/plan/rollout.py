"""Which version gets the requests, which ones have servers, and what is done about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from modelwright.api.modeldeployment import FailedVersion, ModelDeploymentSpec, ModelDeploymentStatus, ServedVersion
from modelwright.plan.actions import Action, Apply, Delete, Object, Patch
from modelwright.plan.fleet import Fleet
from modelwright.plan.observed import Observed
from modelwright.plan.serving_objects import (
    MODEL_LABEL,
    SELECTED_ANNOTATION,
    as_wanted,
    deployment,
    service,
    version_of,
)
from modelwright.plan.settings import Settings
from modelwright.plan.target import Target
from modelwright.plan.times import is_stamp, seconds_between, stamp

_ROUNDING = 1.0
"""Timestamps are whole seconds, rounded down."""


@dataclass(frozen=True)
class Scene:
    """What is known at one visit."""

    observed: Observed
    spec: ModelDeploymentSpec
    before: ModelDeploymentStatus
    target: Target
    fleets: Mapping[int, Fleet]
    """By version."""
    now: datetime

    @property
    def owner(self) -> Object:
        """The ModelDeployment."""
        return self.observed.object

    @property
    def generation(self) -> int | None:
        """Of the spec."""
        found = self.owner["metadata"].get("generation")
        return None if found is None else int(found)

    @property
    def served(self) -> int | None:
        """The version that served at the last visit."""
        return self.before.serving.version if self.before.serving else None

    def ready(self, version: int | None) -> int:
        """Return how many servers of a version answer."""
        fleet = self.fleets.get(version) if version is not None else None
        return 0 if fleet is None or fleet.leaving else fleet.ready


@dataclass(frozen=True)
class Rollout:
    """What is decided at one visit."""

    selected: int | None
    """The version that the Service names; None: there is nothing to name yet."""
    serving: ServedVersion | None
    """The version that answers, or did when last one did."""
    failed: FailedVersion | None
    """The wanted version, if it was given up."""


def decide(scene: Scene) -> Rollout:
    """Return who gets the requests, and whether the wanted version is given up."""
    failed = _failed(scene)
    selected = _select(scene, failed)
    return Rollout(selected, _serving(scene, selected), failed)


def actions(scene: Scene, rollout: Rollout, settings: Settings) -> tuple[Action, ...]:
    """Return what brings the cluster there: first the switch, for nothing may keep requests from whoever can answer."""
    found: list[Action] = list(_service(scene, rollout))
    kept = _kept(scene, rollout)
    for version in sorted(kept):
        found.extend(_deployment(scene, version, settings))
    patience = drain_left(scene, rollout)
    found.extend(Delete(fleet.ref) for fleet in superseded(scene, rollout) if fleet.ready == 0 or patience <= 0)
    return tuple(found)


def superseded(scene: Scene, rollout: Rollout) -> Iterable[Fleet]:
    """Return the fleets that nobody needs any more, once they have drained."""
    kept = _kept(scene, rollout)
    return [fleet for version, fleet in sorted(scene.fleets.items()) if version not in kept and not fleet.leaving]


def drain_left(scene: Scene, rollout: Rollout) -> float:
    """Return the seconds for which servers that are no longer selected still have to answer.

    The switch reaches every node through the EndpointSlice and kube-proxy, which takes a moment; callers also keep
    connections that they have.
    """
    if rollout.serving is None or rollout.serving.since is None:
        return 0.0
    return scene.spec.rollout.drain_seconds + _ROUNDING - seconds_between(rollout.serving.since, scene.now)


def _failed(scene: Scene) -> FailedVersion | None:
    version, before = scene.target.version, scene.before
    if version is None or version == scene.served:
        return None
    remembered = before.failed
    if remembered is not None and remembered.version == version and before.observed_generation == scene.generation:
        return remembered
    fleet = scene.fleets.get(version)
    alone, changed = scene.served is None, before.observed_generation != scene.generation
    # What was made from the spec before this one is not judged: it is changed first.
    if changed or fleet is None or fleet.leaving or (alone and fleet.ready):
        return None
    if fleet.hopeless is not None:
        return fleet.hopeless
    if not fleet.overdue or (alone and fleet.complaint is not None):
        # With nothing else to serve, what may come right (a full cluster, a store that is down) is waited for.
        return None
    reason, message = fleet.complaint or ("DeadlineExceeded", "its servers were not ready in time")
    return FailedVersion(version=version, reason=reason, message=message)


def _select(scene: Scene, failed: FailedVersion | None) -> int | None:
    target, current = scene.target.version, _named(scene)
    if target is not None and scene.ready(target) >= scene.spec.replicas and failed is None:
        return target
    answering = [version for version in scene.fleets if scene.ready(version)]
    for version in (current, scene.served, target, *sorted(answering, reverse=True)):
        if version in answering:
            return version
    if scene.served is not None:
        # Nobody answers. To move would help nobody either, while there is something to come back where we are.
        return current if current is not None and (current in scene.fleets or current == target) else scene.served
    return target if scene.target.deployable or current == target else current


def _named(scene: Scene) -> int | None:
    """Return the version that the Service names now: the truth about where requests go, whatever the status says."""
    for found in scene.observed.child("Service"):
        return version_of(found["spec"].get("selector") or {})
    return None


def _serving(scene: Scene, selected: int | None) -> ServedVersion | None:
    before = scene.before.serving
    if selected is None or not scene.ready(selected):
        return before
    name = str(scene.fleets[selected].deployment["metadata"]["labels"].get(MODEL_LABEL, scene.spec.model.name))
    same = before is not None and (before.name, before.version) == (name, selected)
    return ServedVersion(
        name=name,
        version=selected,
        alias=scene.spec.model.alias if selected == scene.target.version else before.alias if before and same else None,
        since=_since(scene, selected, before if same else None),
    )


def _since(scene: Scene, selected: int, before: ServedVersion | None) -> str:
    """Return when a version took the requests, or took them back; a status may not have heard of the last switch."""
    if before is None or before.since is None:
        return stamp(scene.now)
    return max(before.since, _named_since(scene, selected) or "")


def _named_since(scene: Scene, version: int) -> str | None:
    """Return since when the Service names a version: from now on, if it does not yet.

    None if nobody wrote that down, or not as a time.
    """
    for found in scene.observed.child("Service"):
        if version_of(found["spec"].get("selector") or {}) == version:
            since = (found["metadata"].get("annotations") or {}).get(SELECTED_ANNOTATION)
            return since if is_stamp(since) else None
    return stamp(scene.now)


def _kept(scene: Scene, rollout: Rollout) -> set[int]:
    kept = {rollout.selected, rollout.serving.version if rollout.serving else None}
    if scene.target.deployable:
        kept.add(scene.target.version)
    return {version for version in kept if version is not None and not _is(rollout.failed, version)}


def _is(failed: FailedVersion | None, version: int) -> bool:
    return failed is not None and failed.version == version


def _service(scene: Scene, rollout: Rollout) -> Iterable[Action]:
    if rollout.selected is None:
        return
    found = next(iter(scene.observed.child("Service")), None)
    if found is not None and found["metadata"].get("deletionTimestamp"):
        return
    wanted = service(scene.owner, rollout.selected, _named_since(scene, rollout.selected))
    if not as_wanted(wanted, found):
        yield Apply(wanted, user_named=True)


def _deployment(scene: Scene, version: int, settings: Settings) -> Iterable[Action]:
    fleet = scene.fleets.get(version)
    if fleet is not None and fleet.leaving:
        return
    if fleet is not None and version != scene.target.version:
        # The version on its way out keeps the pods that it has: a new image or store is the new version's matter.
        if fleet.asked != scene.spec.replicas:
            yield Patch(fleet.ref, {"spec": {"replicas": scene.spec.replicas}})
        return
    if scene.target.store is None:
        return
    wanted = deployment(scene.owner, scene.spec, version, scene.target.store, settings)
    if not as_wanted(wanted, fleet.deployment if fleet else None):
        yield Apply(wanted, user_named=True)
