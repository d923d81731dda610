"""The training loop of all comparisons: what a good engineer would write, with a choice of who keeps its checkpoints.

It is handed to pods as it stands (`python -c`), and started by torchrun unless Ray Train does that. With
BENCH_KEEPER=plain it brings its own process group, and its own checkpoint: one object on S3 that each save replaces as
a whole. With BENCH_KEEPER=modelwright both are those of `modelwright.train`, and with BENCH_KEEPER=raytrain those of
Ray Train: it is the driver then, and the loop runs in Ray's workers. Rows, network, steps and what it prints are the
same.
"""

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_STEPS = 10_000_000
"""It trains until it is ended."""
_HIDDEN = 512
_TELL_SECONDS = 0.2
_COLUMNS = ("hour", "distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
_TARGET, _POSITIVE = "arrival", "late"
_FILE = "state.pt"


def place(uri: str) -> tuple[str, str]:
    """Return bucket and key of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class Plain:
    """What is usual without an operator."""

    def __init__(self, client: Any, checkpoint: str, every: float, rank: int, size: int) -> None:
        self._client = client
        self._checkpoint = place(checkpoint)
        self._every = every
        self._rank, self._size = rank, size
        self._saved = time.monotonic()

    def rows(self, uri: str) -> Any:
        """Return this process's share of the rows; all shares have the same length."""
        import pandas as pd

        bucket, key = place(uri)
        frame = pd.read_parquet(io.BytesIO(self._client.get_object(Bucket=bucket, Key=key)["Body"].read()))
        return frame.iloc[self._rank :: self._size][: len(frame) // self._size]

    def resume(self, **parts: Any) -> int:
        """Load the newest checkpoint into the parts and return the step to go on with."""
        bucket, key = self._checkpoint
        try:
            body = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return 0
        return load(io.BytesIO(body), parts)

    def after(self, step: int, loss: Any, **parts: Any) -> None:
        """Save when it is time: on rank 0, which has the same state as all others."""
        if self._rank != 0 or not self._due():
            return
        buffer = io.BytesIO()
        save(buffer, step, parts)
        bucket, key = self._checkpoint
        self._client.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())
        self._saved = time.monotonic()

    def _due(self) -> bool:
        return time.monotonic() - self._saved >= self._every


class Reported(Plain):
    """What is usual with Ray Train, which keeps the checkpoints: all report, and rank 0 hands over a folder."""

    def resume(self, **parts: Any) -> int:
        """Load the newest checkpoint into the parts and return the step to go on with."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return 0
        with checkpoint.as_directory() as folder, (Path(folder) / _FILE).open("rb") as file:
            return load(file, parts)

    def after(self, step: int, loss: Any, **parts: Any) -> None:
        """Save when rank 0 finds that it is time: a report waits for those of all others."""
        import ray.train
        import torch

        due = torch.tensor(self._due())
        torch.distributed.broadcast(due, 0)
        if not due:
            return
        if self._rank != 0:
            ray.train.report({})
            return
        with tempfile.TemporaryDirectory() as folder:
            with (Path(folder) / _FILE).open("wb") as file:
                save(file, step, parts)
            ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder))
        self._saved = time.monotonic()


class Kept:
    """The same with `modelwright.train`."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def rows(self, _: str) -> Any:
        """Return this process's share of the rows of `spec.dataset`."""
        return self._session.rows()

    def resume(self, **parts: Any) -> int:
        """Return the step to go on with."""
        return int(self._session.resume(**parts))

    def after(self, step: int, loss: Any, **parts: Any) -> None:
        """Report, and save when it is due."""
        self._session.report(step, loss=loss)
        self._session.checkpoint(step, **parts)


def save(file: Any, step: int, parts: Mapping[str, Any]) -> None:
    """Write what a training needs to go on after a step."""
    import torch

    torch.save({"step": step + 1, **{name: part.state_dict() for name, part in parts.items()}}, file)


def load(file: Any, parts: Mapping[str, Any]) -> int:
    """Fill the parts with what was saved and return the step to go on with."""
    import torch

    state = torch.load(file, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


@contextmanager
def plain() -> Iterator[Plain]:
    """Join the group, as torchrun has prepared it, or be in it, where Ray Train has made it."""
    import boto3
    import torch.distributed as dist

    made = dist.is_initialized()
    if not made:
        dist.init_process_group("gloo")
    every, where = float(os.environ["BENCH_EVERY"]), os.environ["BENCH_CHECKPOINT"]
    yield (Reported if made else Plain)(boto3.client("s3"), where, every, dist.get_rank(), dist.get_world_size())


@contextmanager
def kept() -> Iterator[Kept]:
    """Join the group through the session."""
    from modelwright import train

    with train.session() as session:
        yield Kept(session)


def tensors(frame: Any) -> tuple[Any, Any]:
    """Return features, scaled, of shape [rows, columns], and targets of shape [rows]."""
    import torch

    numbers = torch.tensor(frame[list(_COLUMNS)].fillna(0).to_numpy(dtype="float32", copy=True))
    scaled = (numbers - numbers.mean(0)) / (numbers.std(0) + 1e-6)
    return scaled, torch.tensor((frame[_TARGET] == _POSITIVE).to_numpy(dtype="float32", copy=True))


def learn(keeper: Any, say: Callable[..., None]) -> None:
    """Train without end; a step is one pass over all rows."""
    import torch

    features, target = tensors(keeper.rows(os.environ["BENCH_DATA"]))
    say("read", len(target), "rows")
    torch.manual_seed(0)
    layers = (torch.nn.Linear(len(_COLUMNS), _HIDDEN), torch.nn.ReLU(), torch.nn.Linear(_HIDDEN, _HIDDEN))
    network = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(_HIDDEN, 1))
    model = torch.nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters())
    first = keeper.resume(model=model, optimizer=optimizer)
    say("resumed", first)
    told = 0.0
    for step in range(first, _STEPS):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(features).squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == first or time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            say("step", step + 1)
        keeper.after(step, loss, model=model, optimizer=optimizer)


def work() -> None:
    """Be one process of the gang; rank 0 tells what it does."""

    def say(*words: object) -> None:
        if os.environ.get("RANK", "0") == "0":
            # At once: who follows the output may look between two writes.
            print(" ".join(("bench", *map(str, words))) + "\n", end="", flush=True)

    say("began")
    import torch

    if os.environ["BENCH_KEEPER"] == "modelwright":
        from modelwright import train  # noqa: F401

        opened: Any = kept()
    else:
        import boto3  # noqa: F401 (a part of what is imported on this side)
        import pandas as pd  # noqa: F401

        opened = plain()
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
    say("imported")
    with opened as keeper:
        say("joined")
        learn(keeper, say)


def drive() -> None:
    """Have Ray Train do the work, on the Ray cluster of this pod, and start it again as often as it is lost.

    What remains after the loss of the driver is found by the name of the run.
    """
    import pyarrow.fs
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(address="auto")
    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    files = pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint.netloc, scheme=endpoint.scheme, region=os.environ["AWS_DEFAULT_REGION"]
    )
    bucket, key = place(os.environ["BENCH_CHECKPOINT"])
    folder, _, name = key.rpartition("/")
    TorchTrainer(
        work,
        scaling_config=ScalingConfig(num_workers=int(os.environ["BENCH_WORKERS"])),
        run_config=RunConfig(
            name=name,
            storage_path=f"{bucket}/{folder}",
            storage_filesystem=files,
            failure_config=FailureConfig(max_failures=-1),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    ).fit()


if __name__ == "__main__":
    drive() if os.environ["BENCH_KEEPER"] == "raytrain" else work()
