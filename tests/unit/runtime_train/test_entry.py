"""`python -m modelwright.runtime.train`: one program for a pod of torch and for a driver of Ray's."""

import runpy
from pathlib import Path
from typing import NoReturn

import pytest

from modelwright.api.run import Failure
from modelwright.runtime import failure
from modelwright.runtime.train import main


@pytest.mark.parametrize("framework", ["PyTorch", "Ray"])
def test_a_run_that_is_not_understood_is_told_as_a_failure(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    message = tmp_path / "message"
    monkeypatch.setattr(main, "leave", leave)
    monkeypatch.setattr(failure, "TERMINATION_MESSAGE_FILE", str(message))
    monkeypatch.setenv("MODELWRIGHT_RUN", f'{{"training": {{"framework": "{framework}"}}}}')
    with pytest.raises(SystemExit) as left:
        runpy.run_module("modelwright.runtime.train", run_name="__main__")
    assert left.value.code == 1
    assert "validation errors for Run" in Failure.model_validate_json(message.read_text()).message
