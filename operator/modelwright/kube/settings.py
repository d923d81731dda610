"""How the process is told what to do: environment variables MODELWRIGHT_*, as the chart sets them."""

import ipaddress
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from modelwright.api.common import Storage
from modelwright.plan.quantity import amount
from modelwright.plan.quotas import Quota
from modelwright.plan.settings import Settings
from modelwright.plan.validation import sentence

PREFIX = "MODELWRIGHT_"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_MOST_CONCURRENCY = 256


class SettingsError(ValueError):
    """A variable is missing or makes no sense; the message names it and says what is wanted."""


def _own_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True)
class Process:
    """Everything that is not for plans."""

    plans: Settings
    namespaces: tuple[str, ...] = ()
    """Where to work; empty means everywhere."""
    pod_name: str = field(default_factory=_own_name)
    """Of this replica alone: two that sign alike take each other's Lease for their own."""
    pod_ip: str = "127.0.0.1"
    pod_namespace: str = "default"
    lease_name: str = "modelwright"
    http_host: str = ""
    """Where to listen; empty means on all addresses."""
    http_port: int = 8080
    concurrency: int = 16
    """How many objects are reconciled at once."""
    alert_token_file: Path | None = None
    """A file with the token that Alertmanager must show; None: alerts are refused."""
    log_format: Literal["json", "text"] = "json"
    log_level: str = "INFO"
    gang_scheduling: bool = True
    """Let the scheduler place gangs, where it can."""
    context: str | None = None
    """A context of the kubeconfig, outside a cluster."""

    @property
    def identity(self) -> str:
        """How this replica signs the Lease; other replicas find its address there."""
        return f"{self.pod_name}_{self.pod_ip}"

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """The namespaces to list, where None stands for all."""
        return self.namespaces or (None,)


def read(environment: Mapping[str, str]) -> Process:
    """Return the settings. Raises SettingsError; unset and empty are the same."""
    given = {
        name.removeprefix(PREFIX): value.strip()
        for name, value in environment.items()
        if name.startswith(PREFIX) and value.strip()
    }
    token_file = given.get("ALERT_TOKEN_FILE")
    return Process(
        plans=_plans(given),
        namespaces=tuple(part.strip() for part in given.get("WATCH_NAMESPACES", "").split(",") if part.strip()),
        pod_name=given.get("POD_NAME", _own_name()),
        pod_ip=_address(given, "POD_IP", Process.pod_ip),
        pod_namespace=given.get("POD_NAMESPACE", Process.pod_namespace),
        lease_name=given.get("LEASE_NAME", Process.lease_name),
        http_host=given.get("HTTP_HOST", Process.http_host),
        http_port=_number(given, "HTTP_PORT", Process.http_port, 1, 65535),
        concurrency=_number(given, "CONCURRENCY", Process.concurrency, 1, _MOST_CONCURRENCY),
        alert_token_file=Path(token_file) if token_file else None,
        log_format="text" if _choice(given, "LOG_FORMAT", ("json", "text")) == "text" else "json",
        log_level=_choice(given, "LOG_LEVEL", _LEVELS, "INFO"),
        gang_scheduling=_choice(given, "GANG_SCHEDULING", ("Auto", "Disabled")) == "Auto",
        context=given.get("KUBE_CONTEXT"),
    )


def _plans(given: Mapping[str, str]) -> Settings:
    try:
        storage = Storage(
            uri=given.get("STORAGE_URI"),
            endpoint=given.get("STORAGE_ENDPOINT"),
            region=given.get("STORAGE_REGION"),
            secret_name=given.get("STORAGE_SECRET_NAME"),
        )
    except ValidationError as error:
        raise SettingsError(f"{PREFIX}STORAGE_*: {sentence(error, 'storage')}") from None
    return Settings(
        runtime_image=_required(given, "RUNTIME_IMAGE"),
        server_image=_required(given, "SERVER_IMAGE"),
        report_url=given.get("REPORT_URL", "").rstrip("/") or None,
        storage=storage,
        quotas=_quotas(given.get("QUOTAS", "[]")),
    )


def _quotas(text: str) -> tuple[Quota, ...]:
    wanted = "a list of {name, namespaces, resources} in JSON is wanted, as in the chart's values"
    try:
        entries = [
            Quota(
                name=str(entry["name"]),
                resources={str(name): amount(value) for name, value in entry["resources"].items()},
                namespaces=frozenset(entry.get("namespaces") or ()),
            )
            for entry in json.loads(text)
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(f"{PREFIX}QUOTAS: {wanted} ({error})") from None
    if len({quota.name for quota in entries}) < len(entries):
        raise SettingsError(f"{PREFIX}QUOTAS: two quotas have one name")
    return tuple(entries)


def _required(given: Mapping[str, str], name: str) -> str:
    if name not in given:
        raise SettingsError(f"{PREFIX}{name} is not set")
    return given[name]


def _number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = given.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise SettingsError(f"{PREFIX}{name} is {text!r}: a number from {least} to {most} is wanted")
    return int(text)


def _choice(given: Mapping[str, str], name: str, choices: tuple[str, ...], default: str | None = None) -> str:
    text = given.get(name, default or choices[0])
    if text not in choices:
        raise SettingsError(f"{PREFIX}{name} is {text!r}: one of {', '.join(choices)} is wanted")
    return text


def _address(given: Mapping[str, str], name: str, default: str) -> str:
    text = given.get(name, default)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise SettingsError(f"{PREFIX}{name} is {text!r}: an IP address is wanted") from None
