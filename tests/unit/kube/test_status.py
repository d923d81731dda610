import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.api import crd
from modelwright.api.kinds import KINDS
from modelwright.kube.status import LIST_KEYS, same, without_nulls

CONDITIONS = [{"type": "Ready", "status": "True"}, {"type": "Succeeded", "status": "True"}]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), json_values, max_size=3))
def test_a_status_is_the_same_as_what_the_server_makes_of_it(wanted: dict[str, Any]) -> None:
    assert same(wanted, json.loads(json.dumps(without_nulls(wanted))))


def test_the_order_of_conditions_means_nothing() -> None:
    assert same({"conditions": CONDITIONS}, {"conditions": CONDITIONS[::-1]})
    assert not same({"conditions": CONDITIONS}, {"conditions": CONDITIONS[:1]})


def test_the_order_of_other_lists_means_something() -> None:
    assert not same({"history": [1, 2]}, {"history": [2, 1]})


@pytest.mark.parametrize("found", [None, {}])
def test_no_status_is_an_empty_status(found: Any) -> None:
    assert same({}, found)
    assert not same({"restarts": 0}, found)


def test_a_number_is_the_same_as_float_and_as_integer() -> None:
    assert same({"loss": 1.0}, {"loss": 1})


def test_every_list_of_type_map_in_a_status_is_known() -> None:
    found: dict[str, set[str]] = {}
    for kind in KINDS:
        schema = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        _collect(schema["properties"]["status"], "", found)
    assert found == {name: {key} for name, key in LIST_KEYS.items()}


def _collect(schema: dict[str, Any], name: str, found: dict[str, set[str]]) -> None:
    if schema.get("x-kubernetes-list-type") == "map":
        found.setdefault(name, set()).update(schema["x-kubernetes-list-map-keys"])
    for inner, field in (schema.get("properties") or {}).items():
        _collect(field, inner, found)
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            _collect(schema[part], name, found)
