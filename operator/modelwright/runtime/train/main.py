"""The whole of a training run, as each process of the gang goes through it."""

import logging
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from modelwright.api import layout
from modelwright.api.artifacts import SIGNATURE_FILE, Metrics
from modelwright.api.recipe import TabularRecipe
from modelwright.api.run import RUN_VARIABLE, Comparison, Run, TrainingReport, TrainingResult
from modelwright.api.trainingjob import Dataset, ModelOutput, RegisteredVersion
from modelwright.registry.store import ObjectStore, open_store
from modelwright.registry.versions import Writer, find_registered, register, take_number
from modelwright.runtime.failure import DataError, RunError, guarded
from modelwright.runtime.hang import COLLECTIVE_TIMEOUT, watching
from modelwright.runtime.report import reporter_from_environment
from modelwright.runtime.train import (
    agentstore,
    data,
    incumbent,
    package,
    preflight,
    problem,
    reference,
    together,
    warmstart,
)
from modelwright.runtime.train.answers import GraphModel
from modelwright.runtime.train.checkpoints import CheckpointStore
from modelwright.runtime.train.evaluation import evaluate, outcome_of, require_thresholds
from modelwright.runtime.train.export import assemble, verify
from modelwright.runtime.train.learning import Surroundings, learn, report
from modelwright.runtime.train.phases import of_this_process
from modelwright.runtime.train.preprocessing import Preprocessor
from modelwright.runtime.train.problem import Split
from modelwright.runtime.train.recipes import begin, fingerprint
from modelwright.runtime.train.stop import Stop, withdraw
from modelwright.runtime.train.trainer import Trainer
from modelwright.runtime.train.world import World, joined

logger = logging.getLogger(__name__)


def main() -> None:
    """Run what MODELWRIGHT_RUN says and exit."""
    leave(run())


def run() -> int:
    """Run what MODELWRIGHT_RUN says and return the exit code; a failure is left as the termination message."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    return guarded(_run_from_environment)


def leave(code: int) -> NoReturn:
    """Exit without the interpreter's farewell: threads of a broken process group could keep it from ever ending."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def execute(run: Run) -> None:
    """Do one process's part of a run. Raises `RunError` or `StoreError`."""
    stop = Stop()
    stop.listen()
    patience = COLLECTIVE_TIMEOUT if run.training.hang.enabled else None
    with watching(run) as watchdog, joined(patience) as world, reporter_from_environment() as reporter:
        logger.info("process %d of %d", world.rank + 1, world.size)
        around = Surroundings(run, world, stop, reporter, watchdog=watchdog, phases=of_this_process())
        if world.leads:
            # A process that has said that it starts is known to be starting until it says more.
            spent, again = around.phases.spent(), agentstore.restarts()
            reporter.send(TrainingReport(attempt=run.attempt, stage="Starting", spent=spent, restarts=again))
        store = open_store(run.storage)
        preflight.check(run, world, store, stop)
        if world.agree(world.leads and finish_registered(store, run)):
            logger.info("this job has registered its version before; nothing is left to do")
            return
        with tempfile.TemporaryDirectory(prefix="modelwright-") as scratch:
            _train(around, store, Path(scratch))


def finish_registered(store: ObjectStore, run: Run) -> bool:
    """Write the result of a version that an earlier attempt has registered; return whether there is one."""
    version = find_registered(store, run.namespace, run.uid)
    if version is None:
        return False
    prefix = layout.version_prefix(version.name, version.version)
    metrics = store.read_document(prefix + package.METRICS_FILE, Metrics)
    comparison = store.read_document(prefix + package.COMPARISON_FILE, Comparison)
    write_result(store, run, version, metrics or Metrics(rows=0, values=()), comparison)
    return True


def write_result(
    store: ObjectStore, run: Run, version: RegisteredVersion, metrics: Metrics, comparison: Comparison | None
) -> None:
    """Leave the result where the operator finds it; it is the last thing that a run does."""
    result = TrainingResult(attempt=run.attempt, model=version, metrics=metrics.values, comparison=comparison)
    store.write_json(layout.result_key(run.namespace, run.uid), result.document())


def load(store: ObjectStore, recipe: TabularRecipe, dataset: Dataset, scratch: Path, world: World) -> Split:
    """Read, check and split the data, the same on every process. Raises `DataError`."""
    source = data.find_source(store, dataset)
    if world.agree(source.digest) != source.digest:
        raise RunError("DatasetChanged", f"{dataset.uri} changed while workers were reading it", retryable=True)
    table = data.read(source, scratch)
    logger.info("read %d rows and %d columns from %s", table.rows, len(table.kinds), dataset.uri)
    return problem.prepare(table, recipe, dataset)


def wanted(run: Run) -> tuple[TabularRecipe, Dataset, ModelOutput]:
    """Return the parts of the spec that a recipe cannot do without; the API server lets none pass without them."""
    spec = run.training
    if spec.recipe is None or spec.recipe.tabular is None or spec.dataset is None or spec.model is None:
        raise DataError("SpecInvalid", "A recipe needs recipe.tabular, dataset and model")
    return spec.recipe.tabular, spec.dataset, spec.model


def _run_from_environment() -> None:
    run = Run.model_validate_json(os.environ[RUN_VARIABLE])
    logger.info("run %s/%s, attempt %d", run.namespace, run.name, run.attempt)
    try:
        execute(run)
    finally:
        withdraw()


def _train(around: Surroundings, store: ObjectStore, scratch: Path) -> None:
    run, world = around.run, around.world
    recipe, dataset, _ = wanted(run)
    split = load(store, recipe, dataset, scratch, world)
    if world.leads:
        incumbent.require_comparable(store, run, split, scratch)
    preprocessor, trainer = begin(split, recipe, world)
    meaning = {SIGNATURE_FILE: split.signature.model_dump_json(by_alias=True).encode()}
    checkpoints = CheckpointStore(store, run, fingerprint(split, recipe, dataset), meaning)
    learnt = learn(trainer, checkpoints, around, lambda: warmstart.begin(trainer, store, run, split.signature))
    with together.until_all_are_done(world, around.stop, trainer.step):
        if not world.leads:
            return
        logger.info("trained for %d steps; evaluating", trainer.step)
        around.reporter.send(report(around, learnt, stage="Evaluating"))
        _finish(around, store, scratch, split, preprocessor, trainer)


def _finish(
    around: Surroundings, store: ObjectStore, scratch: Path, split: Split, preprocessor: Preprocessor, trainer: Trainer
) -> None:
    """Export, prove, evaluate, compare, register, and say so."""
    run = around.run
    recipe, dataset, model = wanted(run)
    exported = assemble(preprocessor, trainer, split.signature)
    graph = GraphModel(exported.SerializeToString(), split.signature)
    logger.info("the exported graph differs by %.1e at most", verify(graph, trainer, preprocessor, split))
    _, scores = graph.answer(split.held_out.features)
    outcome = outcome_of(scores, split.held_out, split.classes)
    metrics = evaluate(outcome)
    require_thresholds(metrics, run.training.evaluation.thresholds)
    holder, warnings = incumbent.find_or_excuse(store, run, scratch)
    comparison = None
    warnings = split.warnings + warnings
    if holder is not None and model.promotion is not None:
        comparison = incumbent.compare(holder, outcome, split, model.promotion, recipe.seed)
        warnings += incumbent.split_warnings(holder, dataset)
    contents = package.Package(
        graph=exported,
        weights=trainer.weights(),
        signature=split.signature,
        metrics=metrics,
        reference=reference.describe(split, scores),
        lineage=package.lineage(run, split, recipe, dataset, holder.version if holder else None, around.phases.spent()),
        comparison=comparison,
        warnings=warnings,
    )
    version = _register(store, run, model.name, contents, scratch)
    write_result(store, run, version, metrics, comparison)
    logger.info("registered %s version %d", version.name, version.version)


def _register(store: ObjectStore, run: Run, model: str, contents: package.Package, scratch: Path) -> RegisteredVersion:
    directory = scratch / "version"
    directory.mkdir()
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    writer = Writer(run.attempt, run.unconfirmed)
    number = take_number(store, model, run.namespace, run.uid, writer)
    package.write(contents, directory, model=model, version=number, created=created)
    return register(
        store,
        model=model,
        namespace=run.namespace,
        job_uid=run.uid,
        directory=directory,
        created=created,
        writer=writer,
    )
