"""The step in JAX, on one worker."""

from __future__ import annotations

from typing import Any

import jax
import numpy.typing as npt
from keras import ops

from dfd_core.training.batch import Floats
from dfd_core.training.steps import Objective, as_array


class JaxSteps:
    """See `steps.Steps`. The variables of model and optimizer are up to date between any two calls."""

    num_workers = 1

    def __init__(self, model: Any, optimizer: Any, objective: Objective, *, fake: int) -> None:
        """Take what `steps.steps_for` is given."""
        self._model = model
        self._optimizer = optimizer
        self._objective = objective
        self._fake = fake
        self._train = jax.jit(self._step)
        self._predict = jax.jit(self._forward)

    def train(self, images: Floats, targets: Floats, weight: Floats) -> Floats:
        """See `Steps`."""
        *state, sums = self._train(*self._state(), images, targets, weight)
        for variables, values in zip(self._variables(), state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return as_array(sums)

    def p_fake(self, images: Floats) -> Floats:
        """See `Steps`."""
        return as_array(self._predict(*self._state()[:2], images))

    def sum_over_workers(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """See `Steps`."""
        return values

    def _variables(self) -> tuple[list[Any], list[Any], list[Any]]:
        model = self._model
        return model.trainable_variables, model.non_trainable_variables, self._optimizer.variables

    def _state(self) -> list[list[Any]]:
        return [[variable.value for variable in variables] for variables in self._variables()]

    def _loss(
        self, trainable: Any, other: Any, optimizer: Any, images: Any, targets: Any, weight: Any
    ) -> Any:
        outputs, other, extra = self._model.stateless_call(
            trainable, other, images, training=True, return_losses=True
        )
        loss, sums = self._objective(outputs, targets, weight, extra)
        return self._scaled(loss, optimizer), (other, sums)

    def _scaled(self, loss: Any, optimizer: Any) -> Any:
        """Return the loss times the scale that a float16 optimizer keeps among its variables."""
        scale = getattr(self._optimizer, "dynamic_scale", None)
        if scale is None:
            return loss
        position = next(i for i, variable in enumerate(self._optimizer.variables) if variable is scale)
        return loss * optimizer[position]

    def _step(self, trainable: Any, other: Any, optimizer: Any, *batch: Any) -> Any:
        gradient = jax.value_and_grad(self._loss, has_aux=True)
        (_, (other, sums)), gradients = gradient(trainable, other, optimizer, *batch)
        trainable, optimizer = self._optimizer.stateless_apply(optimizer, gradients, trainable)
        return trainable, other, optimizer, sums

    def _forward(self, trainable: Any, other: Any, images: Any) -> Any:
        outputs, _ = self._model.stateless_call(trainable, other, images, training=False)
        return ops.cast(outputs, "float32")[:, self._fake]
