"""What the docs show exists and can be applied."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelwright.api.failurepolicy import FailureClass, RestartBudgets
from modelwright.api.goodput import Bucket
from modelwright.api.kinds import KINDS
from modelwright.api.schema import API_VERSION
from modelwright.kube.status import REFUSED
from modelwright.plan.conditions import Reason, State
from modelwright.plan.failures import Cause

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("charts/**/*.md")]
)
BY_KIND = {kind.kind: kind for kind in KINDS}


def blocks(page: Path) -> list[str]:
    """Return the pieces of YAML that a page shows."""
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def manifests(page: Path) -> list[dict[str, Any]]:
    """Return the resources of ours that a page shows whole."""
    documents = [document for block in blocks(page) for document in yaml.safe_load_all(block)]
    return [document for document in documents if document.get("apiVersion") == API_VERSION]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_manifest_of_ours_can_be_read(page: Path) -> None:
    for manifest in manifests(page):
        kind = BY_KIND[manifest["kind"]]
        spec = kind.spec.model_validate(manifest["spec"])
        assert set(manifest["spec"]) <= set(spec.document())


def test_the_readme_shows_every_kind() -> None:
    assert {manifest["kind"] for manifest in manifests(ROOT / "README.md")} == set(BY_KIND)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_has_a_page_that_names_its_example(kind: Any) -> None:
    name = kind.kind.lower()
    page = (ROOT / f"docs/{name}.md").read_text()
    assert page.startswith(f"# {kind.kind}\n")
    assert f"../examples/{name}.yaml" in page
    assert f"`{kind.short}`" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z0-9-]+)`", page.read_text()))
    named |= set(re.findall(r"^make ([a-z0-9-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets


def table(page: str, heading: str) -> set[str]:
    """Return the words in the first column of the tables below a heading, up to the next of its rank."""
    rank = heading.split()[0]
    text = (ROOT / "docs" / page).read_text().partition(f"\n{heading}\n")[2].partition(f"\n{rank} ")[0]
    return set(re.findall(r"^\| `([A-Za-z]+)` \|", text, re.MULTILINE))


def test_every_reason_of_ready_is_explained_and_no_other() -> None:
    assert table("conditions.md", "## Reasons of Ready") == {*Reason, REFUSED}


def test_argo_cd_is_told_what_our_states_mean() -> None:
    (block,) = blocks(ROOT / "docs/conditions.md")
    checks = yaml.safe_load(yaml.safe_load(block)["data"]["resource.customizations"])
    script = checks[f"{API_VERSION.partition('/')[0]}/*"]["health.lua"]
    assert dict(re.findall(r'(\w+) = "([A-Z]\w+)"[,}]', script.partition("local meaning")[2])) == {
        State.SUSPENDED: "Suspended",
        State.STALLED: "Degraded",
        State.READY: "Healthy",
    }


def test_every_cause_of_an_end_is_named() -> None:
    text = (ROOT / "docs/conditions.md").read_text().partition("## Why an attempt ended")[2]
    assert set(Cause) <= set(re.findall(r"`([A-Za-z]+)`", text))


def test_every_class_of_failure_has_its_budget_and_every_second_its_bucket() -> None:
    assert table("failures.md", "## Classes and budgets") == set(FailureClass)
    defaults = {**RestartBudgets().document(), "preemption": "no limit"}
    text = (ROOT / "docs/failures.md").read_text()
    shown = dict(re.findall(r"^\| `[A-Za-z]+` \|.*\| `([a-zA-Z]+)` \| (.+) \|$", text, re.MULTILINE))
    assert shown == {name: str(value) for name, value in defaults.items()}
    assert table("goodput.md", "## The buckets") == set(Bucket) - {Bucket.SUSPENDED}
