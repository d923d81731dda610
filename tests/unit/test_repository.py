"""The house itself: what must be where, and what must not be."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = [*sorted(ROOT.glob("images/*/*.txt")), ROOT / "images/tools.txt", ROOT / "tests/requirements.txt"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = ("help", "demo", "test", "e2e", "bench", "cluster-up", "cluster-down", "images", "crds")
LONGEST_FILE = 500


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def normalized(requirement: str) -> str:
    """Return the name of a requirement as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement)[0]).lower()


def locked(path: Path) -> dict[str, str]:
    """Return name and version of everything in a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE))


def test_the_standard_library_module_operator_is_not_shadowed() -> None:
    assert not (ROOT / "operator/__init__.py").exists()


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_lock_has_a_hash_for_everything_and_names_no_host(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--index-url" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text)
    assert locked(path)
    assert [entry for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("extra", ["operator", "server", "runtime"])
def test_an_image_installs_what_its_extra_asks_for(extra: str) -> None:
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"][extra]]
    assert {normalized(entry) for entry in wanted} <= locked(ROOT / f"images/{extra}/requirements.txt").keys()


def test_what_rays_dashboard_needs_is_locked_beside_what_the_image_has_and_not_in_it() -> None:
    image, beside = (locked(ROOT / f"images/runtime/{name}.txt") for name in ("requirements", "ray-dashboard"))
    assert {"aiohttp-cors", "grpcio", "opentelemetry-sdk"} <= beside.keys()
    assert not beside.keys() & image.keys()


def test_tests_run_with_all_that_is_asked_for() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [entry for extra in extras for entry in extra] + PROJECT["dependency-groups"]["dev"]
    assert {normalized(entry) for entry in wanted} <= locked(ROOT / "tests/requirements.txt").keys()


def test_the_server_and_the_operator_carry_no_training_framework() -> None:
    for name in ("operator", "server"):
        assert (
            not {"torch", "ray", "lightgbm", "scikit-learn"} & locked(ROOT / f"images/{name}/requirements.txt").keys()
        )


def test_no_file_is_too_long_to_be_read() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources("operator", "e2e", "tests")}
    assert lengths
    assert {path: length for path, length in lengths.items() if length >= LONGEST_FILE} == {}


def test_every_package_says_what_it_is_for() -> None:
    folders = {path.parent for path in sources("operator/modelwright")}
    undocumented = [folder for folder in folders if not (folder / "__init__.py").read_text().startswith('"""')]
    assert undocumented == []


def test_make_help_names_every_target_with_a_sentence() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    described = dict(re.findall(r"^  (\S+) +(\S.*)$", shown, re.MULTILINE))
    phony = re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(described) == set(phony)
    assert set(TARGETS) <= set(phony)


def test_ci_runs_what_a_person_runs() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert re.findall(r"^stage \S+ make (\S+)$", text, re.MULTILINE) == ["venv", "test", "e2e"]
    subprocess.run(["bash", "-n", script], check=True)


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"


def test_the_licence_is_what_the_project_says() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")
