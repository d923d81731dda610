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
        (
            "2026-11-28 20:48:53,201\tERR -- \x1b[31mRaylet died.\x1b[39m\n\x1b[0m\n",
            1,
            Output("ERR -- Raylet died.", 1),
        ),
        (TORCHRUN.format(first=42, root=42), 1, Output("ValueError: bad batch", 42)),
        (TORCHRUN.format(first=-15, root=-9), 1, Output("ValueError: bad batch", 137)),
        (TORCHRUN.format(first=7, root="1" * 5000), 1, Output("ValueError: bad batch", 7)),
        (TORCHRUN.format(first=7, root="?").split("Root")[0], 1, Output("ValueError: bad batch", 7)),
    ],
)
def test_the_program_is_heard_through_its_launcher(text: str, code: int | None, told: Output) -> None:
    assert read(text, code) == told


STACKS = """\
epoch 3
Timeout (0:05:12)!
Thread 0x00007f1b7e8c1f80 (most recent call first):
  File "/opt/train.py", line 7 in step
  File "/opt/train.py", line 12 in <module>

Thread 0x00007f1b7e8c2f80 (most recent call first):
  <no Python frame>
"""


@pytest.mark.parametrize(
    "text", [STACKS, STACKS.rstrip(), STACKS + TORCHRUN.format(first=1, root=1).split("batch\n")[1]]
)
def test_stacks_at_the_end_are_those_of_a_program_that_stood_still(text: str) -> None:
    assert read(text, 1).stood_still


@pytest.mark.parametrize(
    "text", ["", "Timeout (0:05:12)", STACKS + "\nepoch 4\n", STACKS.partition("!")[2], "TimeoutError: Timeout (0:1)!"]
)
def test_a_program_that_spoke_after_its_stacks_did_not_stand_still(text: str) -> None:
    assert not read(text, 1).stood_still


CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 15.77 GiB"


LOW = "worker(s) were killed due to the node running low on memory"
BY_RAY = f"""\
Traceback (most recent call last):
ray.exceptions.OutOfMemoryError: 1 {LOW}. M
Ray killed 1 worker(s) based on the killing policy
Top 10 memory users: PID	MEM(GB)	COMMAND
{"9235	1.91	ray::W.train" * 40}
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/. {"Consider it. " * 100}
"""
KILLED_BY_RAY = "Ray killed a process before its pod hit its limit: raise it, or lower the batch size"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f"Traceback\n  File x\ntorch.OutOfMemoryError: {CUDA}\n", f"torch.OutOfMemoryError: {CUDA}"),
        (f"torch.cuda.OutOfMemoryError: {CUDA}", f"torch.cuda.OutOfMemoryError: {CUDA}"),
        (f"[rank3]: torch.OutOfMemoryError: {CUDA}\n[rank0]: gone", f"torch.OutOfMemoryError: {CUDA}"),
        (f"(RayTrainWorker pid=7, ip=10.0.0.1) torch.OutOfMemoryError: {CUDA}", f"torch.OutOfMemoryError: {CUDA}"),
        (f"\x1b[36m(RayTrainWorker pid=7)\x1b[0m torch.OutOfMemoryError: {CUDA}", f"torch.OutOfMemoryError: {CUDA}"),
        ("RuntimeError: CUDA error: out of memory\nlater", "RuntimeError: CUDA error: out of memory"),
        ("RuntimeError: HIP out of memory.", "RuntimeError: HIP out of memory."),
        ("MemoryError", "MemoryError"),
        (
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8. GiB",
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8. GiB",
        ),
        (
            "jaxlib._jax.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
            "jaxlib._jax.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
        ),
        ("torch.OutOfMemoryError: " + "x" * 500, ("torch.OutOfMemoryError: " + "x" * 500)[:300]),
        (BY_RAY, "ray.exceptions.OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory. M"),
        # As much as the kubelet keeps of it, and what Ray Train says of a worker.
        (BY_RAY[-2048:], KILLED_BY_RAY),
        (f"The actor died: 1 {LOW} (IP: 10.0.0.1).\n", KILLED_BY_RAY),
        (f"(raylet) 1 {LOW}\nit is tried again\nValueError: no", ""),
        (f"{BY_RAY[-2048:]}ValueError: no", ""),
        ("step 7: CUDA out of memory, halving the batch\nValueError: no", ""),
        ("WARNING caught torch.OutOfMemoryError: halving the batch\nValueError: no", ""),
        ("ValueError: no", ""),
    ],
)
def test_want_of_memory_is_told_from_the_error_and_not_from_talk_of_it(text: str, error: str) -> None:
    assert read(text, 1).out_of_memory == error


def test_want_of_memory_is_heard_through_the_launcher() -> None:
    text = TORCHRUN.format(first=1, root=1).replace("ValueError: bad batch", "[rank0]: torch.OutOfMemoryError: no")
    assert read(text, 1).out_of_memory == "torch.OutOfMemoryError: no"
