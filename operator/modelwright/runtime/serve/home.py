"""What GET / says: how to call this model."""

from typing import Any

import orjson

from modelwright.runtime.serve.http import Response
from modelwright.runtime.serve.model import Model


def home(model: Model) -> Response:
    """Return a page that a person can read and a program can parse, with an example that works."""
    row = model.typical_row()
    example = orjson.dumps({"rows": [row]}).decode()
    document: dict[str, Any] = {
        "model": model.name,
        "version": str(model.version),
        "task": model.signature.task,
        "target": model.signature.target,
        "columns": {name: column.kind for name, column in model.layout.columns.items()},
        "predict": {
            "method": "POST",
            "path": f"/v1/models/{model.name}:predict",
            "body": {"rows": [row]},
            "curl": f"curl -d {_quoted(example)} http://HOST/predict",
        },
        "open_inference_protocol": f"/v2/models/{model.name}",
        "metrics": "/metrics",
    }
    return Response(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
