from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.plan.alerts import PayloadError, concerns, decode, for_policy
from modelwright.plan.observed import Alert

FIRING = {
    "status": "firing",
    "fingerprint": "c3f1",
    "startsAt": "2026-01-01T00:00:00Z",
    "labels": {"alertname": "HighErrorRate", "model": "flights"},
}

labels = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xy"), max_size=4)


def payload(*alerts: Any, **changes: Any) -> dict[str, Any]:
    return {
        "version": "4",
        "groupKey": "{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "alerts": list(alerts),
        **changes,
    }


def policy(wanted: dict[str, str] | None) -> dict[str, Any]:
    spec = {} if wanted is None else {"alerts": {"matchLabels": wanted}}
    return {"metadata": {"namespace": "team"}, "spec": spec}


def test_firing_alerts_are_decoded_and_resolved_ones_are_not() -> None:
    decoded = decode(payload(FIRING, {**FIRING, "status": "resolved", "fingerprint": "d4"}))
    assert decoded == (Alert("c3f1", "2026-01-01T00:00:00Z", FIRING["labels"]),)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body is not a JSON object"),
        (payload(version="3"), "version is '3': \"4\" is wanted"),
        ({"alerts": []}, 'version is None: "4" is wanted'),
        (payload(alerts={}), "alerts is not a list"),
        (payload(FIRING, 1), "alerts[1] is not a JSON object"),
        (payload({**FIRING, "labels": {"a": 1}}), "alerts[0].labels is not an object of strings"),
        (payload({**FIRING, "fingerprint": ""}), "alerts[0].fingerprint is missing"),
        (payload({"status": "firing", "labels": {}, "fingerprint": "f"}), "alerts[0].startsAt is missing"),
    ],
)
def test_anything_else_is_refused_as_a_whole_and_named(body: Any, message: str) -> None:
    with pytest.raises(PayloadError) as refusal:
        decode(body)
    assert str(refusal.value) == message


@given(wanted=labels, found=labels)
def test_an_alert_concerns_a_policy_when_it_has_every_label_that_is_asked_for(
    wanted: dict[str, str], found: dict[str, str]
) -> None:
    alert = Alert("f", "t", found)
    assert concerns(alert, policy(wanted)) == (bool(wanted) and wanted.items() <= found.items())


@pytest.mark.parametrize(
    ("where", "wanted", "concerned"),
    [
        ({}, {}, True),
        ({"namespace": "team"}, {}, True),
        ({"namespace": "others"}, {}, False),
        ({"namespace": "others"}, {"namespace": "others"}, True),
        ({"namespace": "team"}, {"namespace": "others"}, False),
    ],
)
def test_an_alert_about_another_namespace_is_only_for_who_asks_for_that(
    where: dict[str, str], wanted: dict[str, str], concerned: bool
) -> None:
    alert = Alert("f", "t", {"deployment": "flights", **where})
    assert concerns(alert, policy({"deployment": "flights", **wanted})) is concerned


def test_a_policy_without_alerts_gets_none() -> None:
    alert = Alert("f", "t", {"a": "x"})
    assert for_policy([alert], policy(None)) == ()
    assert for_policy([alert], policy({"a": "x"})) == (alert,)
