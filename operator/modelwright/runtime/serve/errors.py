"""What is said to a caller whose request cannot be answered, and to the operator when nothing can be served."""

from typing import Any

_SHOWN = 60


class RequestError(Exception):
    """A request that is refused: the caller can put it right."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        column: str | None = None,
        expected: str | None = None,
        got: str | None = None,
    ) -> None:
        """Say what is wrong, and where it is known with which column, what was expected and what came."""
        super().__init__(message)
        self.status = status
        self.column = column
        self.expected = expected
        self.got = got

    def document(self) -> dict[str, Any]:
        """Return the body of the answer; `error` is what the Open Inference Protocol asks for."""
        details = {"column": self.column, "expected": self.expected, "got": self.got}
        return {"error": str(self), **{key: value for key, value in details.items() if value is not None}}


class InferenceError(Exception):
    """The model itself failed on rows that its signature allows."""


class ModelLoadError(Exception):
    """The files of a version do not make a model that can be served."""


def describe(value: object) -> str:
    """Return a JSON value with its JSON type, cut to a line: `string "abc"`."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean {str(value).lower()}"
        case str():
            return f'string "{_cut(value)}"'
        case int() | float():
            return f"number {_cut(repr(value))}"
        case list():
            return f"array of {len(value)}"
        case _:
            return "object"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
