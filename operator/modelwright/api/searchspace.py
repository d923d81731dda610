"""Which fields of a recipe a sweep may search, and how a value that was tried becomes part of the recipe."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from modelwright.api.recipe import TabularRecipe
from modelwright.api.tuningsweep import ParameterValue

_PARAMETERS = ("neural_network", "light_gbm")
"""Groups of fields that say how to learn; what to learn from which columns is not searched."""


def searchable_fields() -> dict[str, FieldInfo]:
    """Return the fields by the names that users write: `algorithm`, `neuralNetwork.learningRate`, ..."""
    fields = TabularRecipe.model_fields
    found = {"algorithm": fields["algorithm"]}
    for group in _PARAMETERS:
        model = fields[group].annotation
        assert isinstance(model, type)  # noqa: S101 (a group is a model)
        assert issubclass(model, BaseModel)  # noqa: S101
        found |= {f"{fields[group].alias}.{field.alias}": field for field in model.model_fields.values()}
    return found


def json_value(name: str, text: str) -> str | int | float:
    """Return the value of a field as it stands in a manifest, from its text. Raises ValueError and KeyError.

    Its bounds are not checked here, but where the whole recipe is.
    """
    kind = _kind(name)
    value: str | int | float = kind.dump_python(kind.validate_python(text), mode="json")
    return value


def with_parameters(recipe: Mapping[str, Any], parameters: Iterable[ParameterValue]) -> dict[str, Any]:
    """Return a tabular recipe, in its JSON form, with some of its fields set. Raises ValueError and KeyError."""
    changed = dict(recipe)
    for parameter in parameters:
        value = json_value(parameter.name, parameter.value)
        group, _, field = parameter.name.rpartition(".")
        if group:
            changed[group] = {**changed.get(group, {}), field: value}
        else:
            changed[field] = value
    return changed


@cache
def _kind(name: str) -> TypeAdapter[Any]:
    # To make one takes a millisecond, and every look at a sweep checks every bound of its space.
    return TypeAdapter(searchable_fields()[name].annotation or str)
