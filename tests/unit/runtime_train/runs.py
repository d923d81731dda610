"""Runs to test with."""

from typing import Any

from modelwright.api.run import Run


def run_of(attempt: int = 1, **spec: Any) -> Run:
    return Run.model_validate(
        {
            "namespace": "ns",
            "name": "job",
            "uid": "uid",
            "attempt": attempt,
            "storage": {"uri": "s3://bucket/base"},
            "training": spec,
        }
    )
