"""Whether the search space of a sweep fits the recipe that is to be searched: checked before any pod is started."""

from collections.abc import Iterable

from pydantic import ValidationError

from modelwright.api.recipe import Algorithm, Recipe
from modelwright.api.searchspace import searchable_fields, with_parameters
from modelwright.api.tuningsweep import ParameterValue, SearchParameter, TuningSweepSpec

_OWNERS = {"neuralNetwork": Algorithm.NEURAL_NETWORK, "lightGBM": Algorithm.LIGHT_GBM}
"""Whose parameters a group of the recipe holds."""


def problem(spec: TuningSweepSpec) -> str | None:
    """Return what is wrong with a sweep's search space, in a sentence for its author; None when it can be searched."""
    recipe = spec.template.recipe
    if recipe is None or recipe.tabular is None:
        return "a sweep searches the fields of a recipe: set spec.template.recipe.tabular"
    for parameter in spec.search_space:
        found = (
            _unknown(parameter)
            or _wrong_kind(parameter)
            or _out_of_bounds(parameter, recipe)
            or _without_effect(parameter, spec.search_space, recipe.tabular.algorithm)
        )
        if found is not None:
            return f"searchSpace {parameter.name}: {found}"
    return _too_wide(spec)


def corners(parameter: SearchParameter) -> tuple[str, ...]:
    """Return the outermost values of a range, or all values of a choice, as text."""
    if parameter.choice is not None:
        return parameter.choice.values
    range_ = parameter.float_ or parameter.int_
    return (str(range_.min), str(range_.max)) if range_ is not None else ()


def _unknown(parameter: SearchParameter) -> str | None:
    known = searchable_fields()
    if parameter.name in known:
        return None
    return f"the recipe has no such field to search; there are {', '.join(known)}"


def _wrong_kind(parameter: SearchParameter) -> str | None:
    kind = searchable_fields()[parameter.name].annotation
    if kind is int and parameter.float_ is not None:
        return "it takes whole numbers: use int, not float"
    if kind is Algorithm and parameter.choice is None:
        return f"it takes a word: use choice, of {', '.join(Algorithm)}"
    return None


def _out_of_bounds(parameter: SearchParameter, recipe: Recipe) -> str | None:
    tabular = recipe.tabular.document() if recipe.tabular else {}
    for text in corners(parameter):
        try:
            changed = with_parameters(tabular, (ParameterValue(name=parameter.name, value=text),))
            Recipe.model_validate({"tabular": changed})
        except ValidationError as error:
            reason = error.errors(include_url=False, include_input=False)[0]["msg"]
            return f"{text} will not do: {reason[0].lower()}{reason[1:]}"
    return None


def _without_effect(parameter: SearchParameter, space: Iterable[SearchParameter], algorithm: Algorithm) -> str | None:
    """Return why every value would train the same model; `algorithm` is the template's."""
    owner = _OWNERS.get(parameter.name.partition(".")[0])
    tried = _choices(space, "algorithm")
    if owner is None or owner in (tried or (algorithm,)):
        return None
    who = "no trial's" if tried else "not the template's"
    return f"{owner} is {who} algorithm, so this has no effect: search algorithm with {owner} too, or leave this out"


def _too_wide(spec: TuningSweepSpec) -> str | None:
    """Return why the winner could not be trained, though every trial can."""
    if not spec.winner.train or Algorithm.LIGHT_GBM not in _choices(spec.search_space, "algorithm"):
        return None
    workers, ray = spec.template.workers, spec.template.ray
    several = {
        "template.workers.replicas must be 1": workers.replicas > 1,
        "leave template.workers.processesPerNode out": workers.processes_per_node not in (None, 1),
        "template.ray.numWorkers must be 1": ray is not None and ray.num_workers not in (None, 1),
    }
    remedy = next((remedy for remedy, found in several.items() if found), None)
    return None if remedy is None else f"searchSpace algorithm: LightGBM trains in one process, so {remedy}"


def _choices(space: Iterable[SearchParameter], name: str) -> tuple[str, ...]:
    return tuple(value for entry in space if entry.name == name and entry.choice for value in entry.choice.values)
