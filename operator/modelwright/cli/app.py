"""Commands over the model registry: see what there is, fetch a version for another place, move an alias by hand."""

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from modelwright.api import layout
from modelwright.api.artifacts import Lineage, Manifest, Metrics
from modelwright.api.run import ResolvedStorage
from modelwright.api.schema import AliasName, ModelName
from modelwright.registry.aliases import move_alias, read_alias
from modelwright.registry.errors import StoreError
from modelwright.registry.probe import require_conditional_writes
from modelwright.registry.store import ObjectStore, open_store
from modelwright.registry.versions import fetch_version, list_versions, read_manifest

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
_console = Console(soft_wrap=True)
_errors = Console(stderr=True, soft_wrap=True)


def _checked(names: TypeAdapter[str], what: str) -> Callable[[str], str]:
    """Return a callback for a name that becomes part of a key: one with a slash in it would lead elsewhere."""

    def check(name: str) -> str:
        try:
            names.validate_python(name)
        except ValidationError as error:
            said = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise typer.BadParameter(f"{name} is not the name of {what}: {said[0].lower()}{said[1:]}") from None
        return name

    return check


Storage = Annotated[
    str, typer.Option("--storage", envvar="MODELWRIGHT_STORAGE_URI", help="Where models are kept: s3://bucket/prefix.")
]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint", envvar="AWS_ENDPOINT_URL", help="The server, for S3 that is not Amazon's.")
]
Name = Annotated[str, typer.Argument(help="The model's name.", callback=_checked(TypeAdapter(ModelName), "a model"))]
Version = Annotated[int, typer.Argument(help="The version's number.", min=1)]


@app.command()
def models(storage: Storage, endpoint: Endpoint = None) -> None:
    """List the models and their newest complete versions."""
    with _store(storage, endpoint) as store:
        table = Table("MODEL", "NEWEST", "ALIASES", box=None)
        for name in store.folders("models/"):
            newest = max((item.version for item in _manifests(store, name)), default=None)
            table.add_row(name, str(newest or "-"), _aliases(store, name))
        _console.print(table)


@app.command()
def versions(name: Name, storage: Storage, endpoint: Endpoint = None) -> None:
    """List the complete versions of a model with their metrics and where they come from."""
    with _store(storage, endpoint) as store:
        holders = dict(_holders(store, name))
        table = Table("VERSION", "ALIASES", "CREATED", "METRICS", "JOB", "TRIGGER", box=None)
        for manifest in _manifests(store, name):
            prefix = layout.version_prefix(name, manifest.version)
            metrics = store.read_document(f"{prefix}metrics.json", Metrics)
            lineage = store.read_document(f"{prefix}lineage.json", Lineage)
            table.add_row(
                str(manifest.version),
                ", ".join(alias for alias, version in holders.items() if version == manifest.version),
                manifest.created,
                ", ".join(f"{entry.name} {entry.value:.4g}" for entry in metrics.values) if metrics else "",
                lineage.job if lineage else "",
                lineage.trigger if lineage else "",
            )
        _console.print(table)


@app.command()
def get(
    name: Name,
    version: Version,
    directory: Annotated[Path, typer.Argument(help="Where the files go.")],
    storage: Storage,
    endpoint: Endpoint = None,
) -> None:
    """Fetch a version and check every file. model.onnx runs on a server, in a browser, on a phone, on a small board."""
    with _store(storage, endpoint) as store:
        manifest = fetch_version(store, name, version, directory)
        for file, described in sorted(manifest.files.items()):
            _console.print(f"{directory / file}  {described.size:,} bytes  sha256 {described.sha256[:12]}")


@app.command()
def promote(
    name: Name,
    version: Version,
    storage: Storage,
    endpoint: Endpoint = None,
    alias: Annotated[
        str, typer.Option(help="The alias to move.", callback=_checked(TypeAdapter(AliasName), "an alias"))
    ] = "champion",
    reason: Annotated[str, typer.Option(help="Why; kept with the alias.")] = "moved by hand",
) -> None:
    """Point an alias at a version: a way back, or a way past the gate. Deployments that follow it roll out."""
    with _store(storage, endpoint) as store:
        require_conditional_writes(store)
        held = read_alias(store, name, alias)
        before = held[0].version if held else None
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        move_alias(store, name, alias, version, before, _user(), reason, moment)
        came_from = f"version {before}" if before else "nowhere"
        _console.print(f"{alias} of {name} points at version {version}; it came from {came_from}")


@app.command()
def logs(
    uri: Annotated[str, typer.Argument(help="What status.attempts[].logs of a TrainingJob says: s3://...")],
    endpoint: Endpoint = None,
    worker: Annotated[int | None, typer.Option(min=0, help="Of this worker alone.")] = None,
) -> None:
    """Print the end of every worker's log of an attempt, and the stacks where it hung, though its pods are gone."""
    with _store(uri, endpoint) as store:
        keys = [entry.key for folder in ("logs/", "stacks/") for entry in store.list(folder)]
        chosen = [key for key in keys if worker is None or key == f"logs/worker-{worker}.log"]
        if not chosen:
            _errors.print(f"nothing is kept below {uri}", style="red", markup=False)
            raise typer.Exit(1)
        for key in chosen:
            if len(chosen) > 1:
                typer.echo(f"==> {key} <==")
            typer.echo(store.read_bytes(key) or b"")


def main() -> None:
    """Run the program."""
    app()


@contextmanager
def _store(storage: str, endpoint: str | None) -> Iterator[ObjectStore]:
    """Open the store; what goes wrong with it ends the program with one sentence."""
    try:
        yield open_store(ResolvedStorage(uri=storage, endpoint=endpoint))
    except ValidationError:
        _errors.print(f"{storage} is not of the form s3://bucket/prefix", style="red")
    except StoreError as error:
        _errors.print(str(error), style="red", markup=False)
    except OSError as error:
        _errors.print(f"{error.filename or 'This machine'}: {error.strerror or error}", style="red", markup=False)
    else:
        return
    raise typer.Exit(1)


def _user() -> str:
    try:
        return f"user {getpass.getuser()}"
    except (OSError, KeyError):
        # A container may run as a number that nobody has written into /etc/passwd.
        return f"uid {os.getuid()}"


def _manifests(store: ObjectStore, name: str) -> list[Manifest]:
    found = (read_manifest(store, name, version) for version in list_versions(store, name))
    return [manifest for manifest in found if manifest is not None]


def _holders(store: ObjectStore, name: str) -> Iterator[tuple[str, int]]:
    prefix = layout.alias_key(name, "")[: -len(".json")]
    for entry in store.list(prefix):
        alias = entry.key.removeprefix(prefix).removesuffix(".json")
        found = read_alias(store, name, alias)
        if found is not None:
            yield alias, found[0].version


def _aliases(store: ObjectStore, name: str) -> str:
    return ", ".join(f"{alias}={version}" for alias, version in _holders(store, name))
