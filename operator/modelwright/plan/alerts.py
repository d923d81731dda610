"""Alertmanager's webhook payload, version 4, and which policy it concerns."""

from collections.abc import Iterable, Mapping
from typing import Any

from modelwright.plan.actions import Object
from modelwright.plan.observed import Alert

PAYLOAD_VERSION = "4"
_NAMESPACE = "namespace"


class PayloadError(ValueError):
    """The body is not a notification of Alertmanager; the message says what is wrong."""


def decode(payload: object) -> tuple[Alert, ...]:
    """Return the firing alerts of a notification. Raises PayloadError.

    Alertmanager can be told to send any body at all; only version "4" of its own is understood, and anything else is
    refused as a whole rather than half believed.
    """
    if not isinstance(payload, Mapping):
        raise PayloadError("the body is not a JSON object")
    if payload.get("version") != PAYLOAD_VERSION:
        raise PayloadError(f'version is {payload.get("version")!r}: "{PAYLOAD_VERSION}" is wanted')
    alerts = payload.get("alerts")
    if not isinstance(alerts, list):
        raise PayloadError("alerts is not a list")
    decoded = [_alert(entry, f"alerts[{index}]") for index, entry in enumerate(alerts)]
    firing = (entry.get("status") == "firing" for entry in alerts)
    return tuple(alert for alert, is_firing in zip(decoded, firing, strict=True) if is_firing)


def concerns(alert: Alert, policy: Object) -> bool:
    """Return whether an alert has every label that a DriftPolicy asks for; a policy that asks for none gets none.

    What names a namespace is about that one, unless a policy of another asks for it by this label: two teams may watch
    deployments of the same name.
    """
    wanted = ((policy.get("spec") or {}).get("alerts") or {}).get("matchLabels") or {}
    home = policy["metadata"]["namespace"]
    elsewhere = _NAMESPACE not in wanted and alert.labels.get(_NAMESPACE, home) != home
    return bool(wanted) and not elsewhere and all(alert.labels.get(name) == value for name, value in wanted.items())


def for_policy(alerts: Iterable[Alert], policy: Object) -> tuple[Alert, ...]:
    """Return the alerts that concern a policy."""
    return tuple(alert for alert in alerts if concerns(alert, policy))


def _alert(entry: Any, where: str) -> Alert:
    if not isinstance(entry, Mapping):
        raise PayloadError(f"{where} is not a JSON object")
    labels = entry.get("labels")
    if not isinstance(labels, Mapping) or not all(isinstance(value, str) for value in labels.values()):
        raise PayloadError(f"{where}.labels is not an object of strings")
    return Alert(_text(entry, "fingerprint", where), _text(entry, "startsAt", where), dict(labels))


def _text(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise PayloadError(f"{where}.{name} is missing")
    return value
