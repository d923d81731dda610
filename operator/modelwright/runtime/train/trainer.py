"""What every way of learning offers to the loop around it."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import onnx

from modelwright.runtime.train.columns import Floats

Files: TypeAlias = dict[str, bytes]
STATE_FILE = "state.safetensors"
"""A network's checkpoint: `model.` and the names of its weights, `optimizer.` and what the optimizer keeps."""
WEIGHTS_FILE = "weights.safetensors"
"""A network's weights alone."""


class Trainer(Protocol):
    """A model that is being trained, one step at a time. Its state can be captured between any two steps."""

    step: int
    """Steps done."""
    total_steps: int
    steps_per_epoch: int

    def advance(self, stop: bool = False) -> bool:
        """Do one step; return whether any process wants to stop."""

    @property
    def loss(self) -> float:
        """The training loss of the last step."""

    def capture(self) -> Callable[[], Files]:
        """Copy the state now; the returned function turns it into files, on whatever thread it is called.

        Raises `RunError` Diverged where nothing could go on from it.
        """

    def restore(self, step: int, files: Files) -> None:
        """Take over a captured state."""

    def start_from(self, weights: Files) -> None:
        """Take over the weights of another model, as `weights` gives them. Raises `DataError` WarmStartImpossible."""

    def scores(self, features: Floats) -> Floats:
        """Return the model's answers: probabilities [rows, classes], or estimates [rows, 1]."""

    def graph(self) -> onnx.ModelProto:
        """Return the model as ONNX: `features` [rows, features] to `scores`, as `scores` gives them."""

    def weights(self) -> Files:
        """Return what a warm start needs: the model alone, without the optimizer."""
