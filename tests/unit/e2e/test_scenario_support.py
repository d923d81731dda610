"""Small parts of the scenarios' support."""

from typing import Any

from e2e.scenarios import specs
from e2e.scenarios.space import columns
from modelwright.api.kinds import KINDS

_SPACE = [{"name": "lightGBM.numLeaves", "int": {"min": 2, "max": 9}}]


def test_a_change_is_merged_into_a_spec_and_leaves_the_original_alone() -> None:
    job = specs.trees("a", "s3://bucket/rows.csv", "model")
    other = specs.changed(job, recipe={"tabular": {"features": ["x"]}}, suspend=True)
    assert other["spec"]["recipe"]["tabular"] == {**job["spec"]["recipe"]["tabular"], "features": ["x"]}
    assert other["spec"]["suspend"] is True
    assert "suspend" not in job["spec"]


def test_a_printed_table_is_read_by_column_even_where_cells_are_empty() -> None:
    printed = "NAME   STATUS      STEP   OF   MODEL\na      Succeeded   7           flight-delay\n"
    assert columns(printed) == {"NAME": "a", "STATUS": "Succeeded", "STEP": "7", "OF": "", "MODEL": "flight-delay"}


def test_every_spec_is_one_that_the_api_knows() -> None:
    trees = specs.trees("a", "s3://bucket/rows.csv", "model")
    made: list[dict[str, Any]] = [
        trees,
        specs.network("a", "s3://bucket/rows.csv", "model", replicas=2, steps=3),
        specs.command("a", "pass", replicas=2),
        specs.deployment("a"),
        specs.deployment("a", version=3),
        specs.policy("a", "a", {"test": {}}),
        specs.sweep("a", trees, {"searchSpace": _SPACE, "objective": {"metric": "roc_auc"}}),
    ]
    kinds = {kind.kind: kind.spec for kind in KINDS}
    for entry in made:
        kinds[entry["kind"]].model_validate(entry["spec"])
