"""AdamW (Loshchilov and Hutter 2019), by torch's function of that name.

torch's optimizer classes import its compiler with their first step, and `DistributedDataParallel` when it is made: that
is a third of all that a pod would import before it trains, and a recipe compiles nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim.adamw import adamw

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
"""torch's own defaults."""
_STEP, _MEAN, _SQUARE = "step", "exp_avg", "exp_avg_sq"


class AdamW:
    """Makes steps of AdamW; between two of them, the gradients of the parameters are the caller's."""

    def __init__(self, parameters: Iterable[Any], weight_decay: float) -> None:
        self._parameters = list(parameters)
        self._weight_decay = weight_decay
        self._means = [torch.zeros_like(each) for each in self._parameters]
        self._squares = [torch.zeros_like(each) for each in self._parameters]
        self._steps = [torch.zeros(()) for _ in self._parameters]

    def step(self, learning_rate: float) -> None:
        """Change all parameters by their gradients."""
        with torch.no_grad():
            adamw(
                self._parameters,
                [each.grad for each in self._parameters],
                self._means,
                self._squares,
                [],
                self._steps,
                amsgrad=False,
                beta1=_BETA1,
                beta2=_BETA2,
                lr=learning_rate,
                weight_decay=self._weight_decay,
                eps=_EPS,
                maximize=False,
            )

    def state(self) -> dict[str, Any]:
        """Return the tensors between two steps themselves, by the names that torch's class gives them: `0.exp_avg`."""
        kept = enumerate(zip(self._steps, self._means, self._squares, strict=True))
        return {
            f"{index}.{name}": value
            for index, values in kept
            for name, value in zip((_STEP, _MEAN, _SQUARE), values, strict=True)
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over such tensors. Raises KeyError where one is missing."""
        for name, value in self.state().items():
            value.copy_(state[name])
