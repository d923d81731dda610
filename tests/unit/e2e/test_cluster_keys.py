"""Binaries and images are found again exactly as long as nothing that decides them has changed."""

import pytest

from e2e.cluster import binaries, buildcontext, paths
from e2e.cluster.binaries import Module


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "TOOLS", tmp_path)
    (tmp_path / "tool").mkdir()
    for name in ("go.mod", "go.sum", "main.go"):
        (tmp_path / "tool" / name).write_text(name)
    return Module("tool", {"tool": "."})


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "main.go"])
def test_a_binary_is_built_again_when_its_source_changes(module, name):
    before = module.key()
    (module.source / name).write_text("changed")
    assert module.key() != before


def test_a_binary_is_built_again_when_its_flags_change(module):
    assert Module("tool", {"tool": "."}, ldflags="-X main.version=2").key() != module.key()


def test_a_build_takes_modules_only_as_pinned(module, tmp_path):
    command = binaries.build_command(module, "tool", tmp_path / "out")
    assert {"-mod=readonly", "-buildvcs=false", "-trimpath"} <= set(command)


def test_the_cluster_comes_up_without_what_only_some_of_its_users_need():
    assert {"kubelet", "coredns", "pause"} <= set(binaries.CLUSTER_PROGRAMS)
    assert not {"helm", "kuberay-operator", "kueue"} & set(binaries.CLUSTER_PROGRAMS)


@pytest.fixture
def checkout(tmp_path):
    files = {
        "images/tools.txt": "uv",
        "images/Dockerfile": "FROM debian",
        "images/server/requirements.txt": "numpy",
        "images/server/more.txt": "ray",
        "images/operator/requirements.txt": "kopf",
        "operator/modelwright/__init__.py": "",
        "operator/modelwright/__pycache__/__init__.pyc": "bytecode",
        "pyproject.toml": "[project]",
        "README.md": "hello",
    }
    for name, content in files.items():
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkout" / name).write_text(content)
    return tmp_path / "checkout"


@pytest.fixture
def tag(checkout, tmp_path):
    numbers = iter(range(10))
    return lambda: buildcontext.copy("server", tmp_path / f"context-{next(numbers)}", checkout)


@pytest.mark.parametrize(
    "name",
    ["images/Dockerfile", "operator/modelwright/__init__.py", "images/tools.txt", "images/server/more.txt"],
)
def test_a_change_of_what_an_image_is_made_of_changes_its_tag(checkout, tag, name):
    before = tag()
    (checkout / name).write_text("changed")
    assert tag() != before


@pytest.mark.parametrize(
    "name", ["README.md", "images/operator/requirements.txt", "operator/modelwright/__pycache__/x"]
)
def test_a_change_of_anything_else_does_not(checkout, tag, name):
    before = tag()
    (checkout / name).write_text("changed")
    assert tag() == before


def test_only_what_is_hashed_can_be_built_from(tag, tmp_path):
    tag()
    found = {str(path.relative_to(tmp_path / "context-0")) for path in (tmp_path / "context-0").rglob("*")}
    assert "README.md" not in found
    assert "operator/modelwright/__init__.py" in found
