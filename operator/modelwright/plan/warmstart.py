"""Which checkpoint `resume.from.trainingJob` means: decided once, when that job has ended, and kept in the status.

A job that still runs deletes its older checkpoints; what this one is to start from may lie in a queue for days. And a
name may be given again: what was decided holds the UID and the checkpoint, and goes into every attempt.
"""

from dataclasses import dataclass
from typing import TypeAlias

from pydantic import ValidationError

from modelwright.api.checkpoint import Resume, ResumeSource, StartedFrom
from modelwright.api.layout import checkpoint_prefix
from modelwright.api.recipe import Algorithm, TabularRecipe
from modelwright.api.run import ResolvedStorage
from modelwright.api.trainingjob import TrainingJobSpec, TrainingJobStatus
from modelwright.plan import owner
from modelwright.plan.actions import Object, ObjectWatch
from modelwright.plan.conditions import Reason, State, Verdict, has_ended
from modelwright.plan.observed import Observed
from modelwright.plan.questions import ListFolders, Question, ReadDocument, ReadLive, ReadObject, Store, Unavailable
from modelwright.plan.settings import Settings
from modelwright.plan.validation import status_before

_AT_ONCE = 4
"""Manifests that are asked for together: the newest checkpoint is mostly complete, and the one before it always."""


@dataclass(frozen=True)
class Impossible:
    """No wait can bring what this job wants to start from."""

    message: str


@dataclass(frozen=True)
class Waiting:
    """What this job wants to start from is not there yet."""

    verdict: Verdict
    watch: ObjectWatch | None = None
    wake_after: float | None = None
    """Seconds, where no change will tell."""


Found: TypeAlias = StartedFrom | Waiting | Impossible | Unavailable | tuple[Question, ...]
"""What is known of a source; questions must be answered first."""


def wanted(spec: TrainingJobSpec) -> str | None:
    """Return the name of the TrainingJob that a job wants to start from."""
    return None if spec.resume is None else spec.resume.from_.training_job


def problem(observed: Observed, spec: TrainingJobSpec) -> str | None:
    """Return why a job cannot start from what it names, where its own manifest tells; None: it may."""
    if wanted(spec) != observed.object["metadata"]["name"]:
        return None
    return "spec.resume.from.trainingJob: a job resumes from its own checkpoints by itself, and cannot wait for its end"


def can_follow(spec: TrainingJobSpec, status: TrainingJobStatus) -> bool:
    """Tell whether another job could start from this one, as far as is known: it has saved what can be gone on with."""
    return status.checkpoint is not None and not _grows_trees(_table(spec))


def settled(spec: TrainingJobSpec, started_from: StartedFrom | None) -> TrainingJobSpec:
    """Return a spec as pods get it: with the checkpoint that a name was found to mean."""
    if wanted(spec) is None or started_from is None:
        return spec
    source = Resume(from_=ResumeSource(checkpoint=started_from.uri))
    return spec.model_copy(update={"resume": source})


def find(observed: Observed, spec: TrainingJobSpec, store: Store, settings: Settings) -> Found:
    """Return which checkpoint a job starts from, or why that is not known."""
    meta, name = observed.object["metadata"], wanted(spec)
    assert name is not None  # noqa: S101 (nobody asks otherwise)
    # An old view of this job may lack what was decided before.
    decided = _decided(observed)
    if decided is not None:
        return decided
    seen = _source(observed, ReadObject("TrainingJob", meta["namespace"], name))
    if not isinstance(seen, dict):
        return seen
    # And an old view of the other one may show its predecessor.
    source = _source(observed, ReadLive("TrainingJob", meta["namespace"], name))
    return _newest(observed, spec, source, store, settings) if isinstance(source, dict) else source


def _decided(observed: Observed) -> StartedFrom | Unavailable | tuple[Question, ...] | None:
    meta = observed.object["metadata"]
    question = ReadLive(observed.object["kind"], meta["namespace"], meta["name"])
    answer = observed.answers.get(question, question)
    if isinstance(answer, ReadLive):
        return (answer,)
    if isinstance(answer, Unavailable):
        return answer
    if not isinstance(answer, dict) or answer["metadata"]["uid"] != meta["uid"]:
        return None
    return status_before(TrainingJobStatus, answer).started_from


def _source(
    observed: Observed, question: ReadObject | ReadLive
) -> Object | Waiting | Unavailable | tuple[Question, ...]:
    """Return the job to start from once it has ended."""
    answer = observed.answers.get(question, question)
    if isinstance(answer, ReadObject | ReadLive):
        return (answer,)
    if isinstance(answer, Unavailable):
        return answer
    name, watch = question.name, ObjectWatch(question.kind, question.namespace, question.name)
    if not isinstance(answer, dict):
        message = f"there is no TrainingJob {name} in the namespace {question.namespace} to start from"
        return Waiting(Verdict(State.RECONCILING, Reason.RESUME_SOURCE_NOT_FOUND, message), watch)
    if not has_ended(answer):
        message = (
            f"it starts from TrainingJob {name} when that has ended; resume.from.checkpoint takes a checkpoint of a "
            "job that still runs"
        )
        return Waiting(Verdict(State.RECONCILING, Reason.RESUME_SOURCE_NOT_ENDED, message), watch)
    return answer


def _newest(observed: Observed, spec: TrainingJobSpec, source: Object, store: Store, settings: Settings) -> Found:
    name, uid, namespace = (source["metadata"][field] for field in ("name", "uid", "namespace"))
    try:
        theirs = TrainingJobSpec.model_validate(source["spec"])
    except ValidationError:
        return Impossible(f"the spec of TrainingJob {name} cannot be read")
    if (difference := _difference(spec, theirs)) is not None:
        return Impossible(f"TrainingJob {name} {difference}: its weights would mean something else here")
    place = settings.resolve(theirs.storage)
    if place is None or place.endpoint != store.storage.endpoint:
        return Impossible(f"TrainingJob {name} keeps its checkpoints on another server than this job")
    there = Store(_reached_by(store, place), store.namespace, store.secret_name)
    below = checkpoint_prefix(namespace, uid)
    folders = ListFolders(there, below)
    names = observed.answers.get(folders, folders)
    if isinstance(names, ListFolders):
        return (names,)
    if isinstance(names, Unavailable):
        return _unreadable(names)
    assert isinstance(names, tuple)  # noqa: S101 (the answer to this question)
    steps = sorted((int(str(folder)) for folder in names if str(folder).isdecimal()), reverse=True)
    found = _complete(observed, there, namespace, uid, steps)
    if isinstance(found, int):
        uri = f"{there.storage.uri}/{checkpoint_prefix(namespace, uid, found)}"
        return StartedFrom(training_job=name, uid=uid, step=found, uri=uri)
    return found or Impossible(f"TrainingJob {name} has ended without a complete checkpoint in {there.storage.uri}")


def _complete(
    observed: Observed, store: Store, namespace: str, uid: str, steps: list[int]
) -> int | Waiting | tuple[Question, ...] | None:
    """Return the first of some steps whose checkpoint has a manifest, or what must be asked first."""
    manifests = [ReadDocument(store, f"{checkpoint_prefix(namespace, uid, step)}manifest.json") for step in steps]
    for step, question in zip(steps, manifests, strict=True):
        answer = observed.answers.get(question, question)
        if isinstance(answer, ReadDocument):
            return tuple(other for other in manifests if other not in observed.answers)[:_AT_ONCE]
        if isinstance(answer, Unavailable):
            return _unreadable(answer)
        if answer is not None:
            return step
    return None


def _reached_by(store: Store, place: ResolvedStorage) -> ResolvedStorage:
    """Return a place as this job reaches it."""
    return store.storage.model_copy(update={"uri": place.uri})


def _difference(ours: TrainingJobSpec, theirs: TrainingJobSpec) -> str | None:
    """Return how another job's work differs from this one's, in words that follow its name."""
    if (ours.recipe is None) != (theirs.recipe is None):
        return "runs a command, and this job a recipe" if ours.recipe else "runs a recipe, and this job a command"
    mine, other = _table(ours), _table(theirs)
    if mine is None or other is None:
        # What a program of the user's learns, only that knows: it ends with WarmStartImpossible where they differ.
        return None
    if _grows_trees(other):
        return f"trains {other.algorithm}, which cannot be gone on with"
    for what, one, two in (
        ("task", mine.task, other.task),
        ("target", mine.target, other.target),
        ("features", sorted(mine.features), sorted(other.features)),
        ("hiddenLayers", mine.neural_network.hidden_layers, other.neural_network.hidden_layers),
        ("hiddenUnits", mine.neural_network.hidden_units, other.neural_network.hidden_units),
    ):
        if one != two:
            return f"has other {what} than this job"
    return None


def _table(spec: TrainingJobSpec) -> TabularRecipe | None:
    return None if spec.recipe is None else spec.recipe.tabular


def _grows_trees(recipe: TabularRecipe | None) -> bool:
    """Tell whether what a recipe learns are trees, which no other job can start with."""
    return recipe is not None and recipe.algorithm is not Algorithm.NEURAL_NETWORK


def _unreadable(trouble: Unavailable) -> Waiting:
    return Waiting(owner.storage_unavailable(trouble.message), wake_after=owner.SOON)
