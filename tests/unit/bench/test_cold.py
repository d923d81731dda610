"""Which files are dropped from the page cache."""

from pathlib import Path

import pytest

from e2e.bench import cold
from e2e.cluster.paths import Layout


def test_the_layers_of_images_are_forgotten_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    layers = layout.containerd / "io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs/lib"
    for folder in (layers, layout.containerd / "io.containerd.content.v1.content", layout.s3):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    forgotten: list[Path] = []
    monkeypatch.setattr(cold, "forget", forgotten.append)
    assert cold.forget_images(layout) >= 0
    assert forgotten == [layers / "file"]


def test_a_file_that_is_forgotten_is_still_there_and_one_that_is_gone_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    cold.forget(file)
    cold.forget(tmp_path / "gone")
    assert file.read_text() == "x"


def test_the_page_cache_is_told_in_mebibytes(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       24000000 kB\nCached:          2097152 kB\nSwapCached:            0 kB\n")
    assert cold.cached_mib(meminfo) == 2048
