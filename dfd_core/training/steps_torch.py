"""The step in PyTorch, on one worker."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from keras import ops

from dfd_core.training.batch import Floats
from dfd_core.training.steps import Objective, as_array


class TorchSteps:
    """See `steps.Steps`."""

    num_workers = 1

    def __init__(self, model: Any, optimizer: Any, objective: Objective, *, fake: int) -> None:
        """Take what `steps.steps_for` is given."""
        self._model = model
        self._optimizer = optimizer
        self._objective = objective
        self._fake = fake

    def train(self, images: Floats, targets: Floats, weight: Floats) -> Floats:
        """See `Steps`."""
        self._model.zero_grad()
        outputs = self._model(ops.convert_to_tensor(images), training=True)
        target, weights = ops.convert_to_tensor(targets), ops.convert_to_tensor(weight)
        loss, sums = self._objective(outputs, target, weights, self._model.losses)
        self._optimizer.scale_loss(loss).backward()
        trainable = self._model.trainable_variables
        with torch.no_grad():
            self._optimizer.apply([variable.value.grad for variable in trainable], trainable)
        return as_array(sums)

    def p_fake(self, images: Floats) -> Floats:
        """See `Steps`."""
        with torch.no_grad():
            outputs = self._model(ops.convert_to_tensor(images), training=False)
            return as_array(ops.cast(outputs, "float32")[:, self._fake])

    def sum_over_workers(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """See `Steps`."""
        return values
