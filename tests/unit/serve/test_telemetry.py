"""What a model is and how it is used is told to nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_QUIET_ANYWAY = {"CI", "GITHUB_ACTIONS", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY"}
_WATCHED = """
import sys, {module}, onnxruntime
from pathlib import Path
print([str(f) for f in Path(sys.argv[1]).rglob("*") if f.is_file()])
"""


@pytest.mark.parametrize("module", ["modelwright.runtime.serve.model", "modelwright.runtime.train.answers"])
def test_onnx_runtime_reports_to_nobody(module: str, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name not in _QUIET_ANYWAY}
    env |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _WATCHED.format(module=module), str(tmp_path)]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    # Its reporter would leave a device id, and a database of what is still to be sent.
    assert said == "[]\n"
