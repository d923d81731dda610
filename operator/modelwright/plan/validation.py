"""What pydantic makes of specs and statuses, and what it found wrong, said to the person who wrote it."""

from typing import TypeVar

from pydantic import ValidationError

from modelwright.api.common import Status
from modelwright.plan.actions import Object

S = TypeVar("S", bound=Status)


def sentence(error: ValidationError, at: str = "spec") -> str:
    """Return the first finding as `spec.test.minSamples: Input should be greater than or equal to 50`.

    `at` names the place that was validated.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join([at, *(str(part) for part in first["loc"])])
    return f"{path}: {first['msg']}"


def status_before(model: type[S], document: Object) -> S:
    """Return the status of an object as this version of the software understands it.

    A field that another version wrote and this one cannot read is left out: it is found out again, or was new then.
    """
    raw = document.get("status") or {}
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        strange = {str(entry["loc"][0]) for entry in error.errors()}
        return model.model_validate({name: value for name, value in raw.items() if name not in strange})
