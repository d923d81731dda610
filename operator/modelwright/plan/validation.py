"""What pydantic found wrong, said to the person who wrote it."""

from pydantic import ValidationError


def sentence(error: ValidationError, at: str = "spec") -> str:
    """Return the first finding as `spec.test.minSamples: Input should be greater than or equal to 50`.

    `at` names the place that was validated.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join([at, *(str(part) for part in first["loc"])])
    return f"{path}: {first['msg']}"
