"""Training the network, on one process or many.

Two things make a run reproducible, and a resumed one end where an uninterrupted one would:
- what is random in a step (the order of rows, dropout) follows from the seed, the epoch or step, and the rank alone;
- the learning rate follows from the step.
So the state between two steps is the weights, the optimizer and the step, and nothing else.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import safetensors.torch
import torch

from modelwright.api.recipe import TabularRecipe
from modelwright.runtime.cpus import available_cpus
from modelwright.runtime.failure import DataError, RunError
from modelwright.runtime.train import network
from modelwright.runtime.train.adamw import AdamW
from modelwright.runtime.train.columns import Floats
from modelwright.runtime.train.problem import Split
from modelwright.runtime.train.trainer import STATE_FILE, WEIGHTS_FILE, Files
from modelwright.runtime.train.world import World

_WORTH_THREADS = 100_000_000
"""Multiplications in one pass over a batch: some milliseconds."""


class NetworkTrainer:
    """A network in training; see `Trainer`. Every process holds all rows and takes its share of each batch."""

    def __init__(
        self, features: Floats, target: npt.NDArray[Any], split: Split, recipe: TabularRecipe, world: World
    ) -> None:
        self._parameters = recipe.neural_network
        self._seed = recipe.seed
        self._world = world
        self._classifies = bool(split.classes)
        self._mean, self._deviation = (0.0, 1.0) if self._classifies else _location(target)
        self._features = torch.from_numpy(features).to(world.device)
        self._target = self._prepare(target).to(world.device)
        torch.manual_seed(recipe.seed)
        self.network = network.build(features.shape[1], split.outputs, self._parameters).to(world.device)
        torch.set_num_threads(_threads(self.network, self._parameters.batch_size // world.size))
        # The same seed may not give the same numbers on every kind of CPU.
        world.broadcast(list(self.network.parameters()))
        self._optimizer = AdamW(self.network.parameters(), self._parameters.weight_decay)
        self._order = (-1, torch.empty(0, dtype=torch.int64))
        self._loss = math.nan
        self.step = 0
        self.steps_per_epoch = math.ceil(len(target) / self._parameters.batch_size)
        self.total_steps = self.steps_per_epoch * self._parameters.epochs

    @property
    def loss(self) -> float:
        """The mean loss of the last batch over all processes: cross-entropy, or squared error of the scaled target."""
        return self._loss

    def advance(self, stop: bool = False) -> bool:
        """Do one step; return whether any process wants to stop. Raises `RunError` PeerLost."""
        batch = self._batch()
        mine = batch[self._world.rank :: self._world.size]
        torch.manual_seed(_seed_of(self._seed, self.step, self._world.rank))
        self.network.zero_grad()
        total = self._sum_of_losses(self.network(self._features[mine]), self._target[mine])
        # The sum over processes is then the mean over the rows of the batch, however they are shared out, even when a
        # process has none.
        (total / len(batch)).backward()
        gradients = [parameter.grad for parameter in self.network.parameters()]
        loss, stops = self._world.all_reduce(gradients, [float(total.detach()), float(stop)])
        self._optimizer.step(self._learning_rate())
        self.step += 1
        self._loss = loss / len(batch)
        return stops > 0

    def capture(self) -> Callable[[], Files]:
        """Copy weights and optimizer to host memory; see `Trainer`.

        Raises `RunError` Diverged where one of them is no number: the checkpoints before are left to go on from.
        """
        tensors = {f"model.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in self._optimizer.state().items()}
        copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        if not all(bool(torch.isfinite(value).all()) for value in copies.values()):
            message = f"The weights are no numbers after step {self.step}: lower the learning rate"
            raise RunError("Diverged", message, retryable=False)
        return lambda: {STATE_FILE: safetensors.torch.save(copies)}

    def restore(self, step: int, files: Files) -> None:
        """Take over a captured state; the number of processes may differ."""
        tensors = safetensors.torch.load(files[STATE_FILE])
        parts: dict[str, dict[str, Any]] = {"model": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, field = name.partition(".")
            parts[part][field] = value
        self.network.load_state_dict(parts["model"])
        self._optimizer.restore(parts["optimizer"])
        self.step = step

    def start_from(self, weights: Files) -> None:
        """Take over the weights of another network; see `Trainer`."""
        tensors = safetensors.torch.load(weights[WEIGHTS_FILE])
        mine = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        theirs = {name: tuple(value.shape) for name, value in tensors.items()}
        if mine != theirs:
            raise DataError(
                "WarmStartImpossible",
                f"The network to start from has layers of {_sizes(theirs)}, and this one of {_sizes(mine)}: give the "
                "same neuralNetwork parameters and data with the same categories, or leave resume out",
            )
        self.network.load_state_dict(tensors)

    def scores(self, features: Floats) -> Floats:
        """Return probabilities or estimates; see `Trainer`."""
        return network.scores(
            self.network, features, classifies=self._classifies, mean=self._mean, deviation=self._deviation
        )

    def graph(self) -> onnx.ModelProto:
        """Return the network as ONNX; see `Trainer`."""
        return network.to_onnx(self.network, classifies=self._classifies, mean=self._mean, deviation=self._deviation)

    def weights(self) -> Files:
        """Return the weights alone."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        return {WEIGHTS_FILE: safetensors.torch.save(tensors)}

    def _prepare(self, target: npt.NDArray[Any]) -> Any:
        if self._classifies:
            return torch.from_numpy(target)
        return torch.from_numpy(((target - self._mean) / self._deviation).astype(np.float32))[:, None]

    def _batch(self) -> Any:
        epoch, index = divmod(self.step, self.steps_per_epoch)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(_seed_of(self._seed, epoch, -1))
            self._order = (epoch, torch.randperm(len(self._target), generator=generator).to(self._world.device))
        size = self._parameters.batch_size
        return self._order[1][index * size : (index + 1) * size]

    def _learning_rate(self) -> float:
        """Cosine decay to zero (Loshchilov and Hutter 2017)."""
        return self._parameters.learning_rate * (1 + math.cos(math.pi * self.step / self.total_steps)) / 2

    def _sum_of_losses(self, output: Any, target: Any) -> Any:
        if self._classifies:
            return torch.nn.functional.cross_entropy(output, target, reduction="sum")
        return torch.nn.functional.mse_loss(output, target, reduction="sum")


def _sizes(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape[::-1])) for name, shape in shapes.items() if name.endswith("weight"))


def _threads(module: Any, rows: int) -> int:
    """Return how many threads a step is worth.

    Threads that wait for each other cost more than a small step, most of all where CPUs are shared: with 2 threads on a
    busy machine of 2 CPUs it took 14 times as long.
    """
    work = rows * sum(parameter.numel() for parameter in module.parameters())
    return 1 if work < _WORTH_THREADS else available_cpus()


def _location(target: npt.NDArray[Any]) -> tuple[float, float]:
    deviation = float(np.float32(target.std(dtype=np.float64)))
    return float(np.float32(target.mean(dtype=np.float64))), deviation or 1.0


def _seed_of(*numbers: int) -> int:
    """Return a seed for torch that differs when any of the numbers does."""
    return int(np.random.SeedSequence([number & 0xFFFFFFFF for number in numbers]).generate_state(1, np.uint64)[0] >> 1)
