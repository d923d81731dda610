import pytest

from modelwright.plan.output import Output, read

TORCHRUN = """\
loading
ValueError: bad batch
E1123 09:19:14.666000 31 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: {first}) local_rank: 0
Traceback (most recent call last):
  File "/opt/venv/bin/torchrun", line 10, in <module>
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
[1]:
  exitcode  : -15 (pid: 13)
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : {root} (pid: 12)
  error_file: <N/A>
============================================================
"""


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("", 3, Output("", 3)),
        ("line\n  ValueError: no \n\n======\n", 1, Output("ValueError: no", 1)),
        ("x" * 1000, None, Output("x" * 300, None)),
        ("2026-11-23 11:54:58,137 INFO resumed\n", 137, Output("INFO resumed", 137)),
        ("[2026-11-23T11:54:58.1Z] killed at 11:55:00\n", 1, Output("killed at 11:55:00", 1)),
        ("12:00:01 late\n", 1, Output("late", 1)),
        (TORCHRUN.format(first=42, root=42), 1, Output("ValueError: bad batch", 42)),
        (TORCHRUN.format(first=-15, root=-9), 1, Output("ValueError: bad batch", 137)),
        (TORCHRUN.format(first=7, root="1" * 5000), 1, Output("ValueError: bad batch", 7)),
        (TORCHRUN.format(first=7, root="?").split("Root")[0], 1, Output("ValueError: bad batch", 7)),
    ],
)
def test_the_program_is_heard_through_its_launcher(text: str, code: int | None, told: Output) -> None:
    assert read(text, code) == told
