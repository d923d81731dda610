"""From the environment to a server that answers, and to a clean end."""

import logging
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import prometheus_client
from pydantic import ValidationError

from modelwright.api.run import TERMINATION_MESSAGE_FILE, Failure
from modelwright.api.serve import REPLICA_VARIABLE, SERVE_VARIABLE, Serve
from modelwright.registry.errors import CorruptVersion, IncompleteVersion, ObjectNotFound, StoreError
from modelwright.registry.store import ObjectStore, open_store
from modelwright.registry.versions import fetch_version
from modelwright.runtime.cpus import cpu_limit
from modelwright.runtime.failure import shortened, write_failure
from modelwright.runtime.monitor.counters import Counters
from modelwright.runtime.monitor.exporter import DriftCollector
from modelwright.runtime.monitor.windows import WindowWriter
from modelwright.runtime.serve.app import App
from modelwright.runtime.serve.drain import DrainingServer
from modelwright.runtime.serve.errors import ModelLoadError
from modelwright.runtime.serve.metrics import Metrics
from modelwright.runtime.serve.model import Model, load

_log = logging.getLogger("modelwright.serve")


def main(environment: Mapping[str, str] = os.environ, termination: Path = Path(TERMINATION_MESSAGE_FILE)) -> int:
    """Serve until told to stop. Returns the exit status: 0, or 1 with a `Failure` in the termination message."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        serve = Serve.model_validate_json(environment[SERVE_VARIABLE])
        store = open_store(serve.storage)
        threads = serve.threads or cpu_limit()
        with tempfile.TemporaryDirectory(prefix="model-") as directory:
            model = _load(store, serve, Path(directory), threads)
    except (KeyError, ValidationError, StoreError, ModelLoadError) as error:
        problem = failure(error)
        _log.error("%s: %s", problem.reason, problem.message)
        write_failure(problem, termination)
        return 1
    _log.info("%s version %d is loaded, %d threads", serve.model, serve.version, threads)
    _run(serve, model, store, environment, threads)
    return 0


def failure(error: Exception) -> Failure:
    """Return what an error at the start means to the operator."""
    match error:
        case IncompleteVersion() | ObjectNotFound():
            return shortened("ModelNotFound", str(error), retryable=False)
        case CorruptVersion() | ModelLoadError():
            return shortened("ModelLoadFailed", str(error), retryable=False)
        case StoreError():
            # Wrong keys in a Secret are put right without touching the deployment, so waiting can help even then.
            return shortened("StorageUnavailable", str(error), retryable=True)
        case _:
            return shortened("InvalidSpec", f"{SERVE_VARIABLE} is not a Serve document", retryable=False)


def _load(store: ObjectStore, serve: Serve, directory: Path, threads: int) -> Model:
    fetch_version(store, serve.model, serve.version, directory)
    model = load(serve.model, serve.version, directory, threads)
    model.warm_up()
    return model


def _run(serve: Serve, model: Model, store: ObjectStore, environment: Mapping[str, str], threads: int) -> None:
    metrics = Metrics(model.name, model.version)
    counters, writer = None, None
    if serve.monitoring.enabled:
        layout = model.layout
        counters = Counters(model.reference, [c.name for c in layout.numeric], [c.name for c in layout.text])
        writer = WindowWriter(serve, environment.get(REPLICA_VARIABLE, "local"), counters, store.write_json)
        metrics.registry.register(DriftCollector(model.reference, counters, writer, metrics.labels))
        writer.start()
    with ThreadPoolExecutor(max_workers=max(2, threads)) as executor:
        server = DrainingServer(App(model, metrics, counters, executor), serve.port, serve.drain_seconds)
        server.run()
    if writer is not None:
        writer.finish()
