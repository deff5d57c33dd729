"""The step in TensorFlow, on one worker or on several that share each batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dfd_core.training.batch import Floats
from dfd_core.training.steps import Objective


class TensorflowSteps:
    """See `steps.Steps`. With several workers each method waits for all of them."""

    def __init__(self, model: Any, optimizer: Any, objective: Objective, *, strategy: Any, fake: int) -> None:
        """Take what `steps.steps_for` is given."""
        self._model = model
        self._optimizer = optimizer
        self._objective = objective
        self._strategy = strategy
        self._fake = fake
        self.num_workers: int = strategy.num_replicas_in_sync
        self._train = tf.function(lambda *batch: strategy.run(self._step, args=batch), autograph=False)
        self._predict = tf.function(
            lambda images: strategy.run(self._forward, args=(images,)), autograph=False
        )
        self._sum = tf.function(self._reduced, autograph=False)

    def train(self, images: Floats, targets: Floats, weight: Floats) -> Floats:
        """See `Steps`."""
        sums: Floats = self._train(tf.constant(images), tf.constant(targets), tf.constant(weight)).numpy()
        return sums

    def p_fake(self, images: Floats) -> Floats:
        """See `Steps`."""
        p_fake: Floats = self._predict(tf.constant(images)).numpy()
        return p_fake

    def sum_over_workers(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """See `Steps`."""
        return values if self.num_workers == 1 else np.asarray(self._sum(tf.constant(values)))

    def _step(self, images: Any, targets: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = self._model(images, training=True)
            loss, sums = self._objective(outputs, targets, weight, self._model.losses)
            scaled = self._optimizer.scale_loss(loss)
        trainable = self._model.trainable_variables
        gradients = tape.gradient(scaled, [variable.value for variable in trainable])
        self._optimizer.apply_gradients(zip(gradients, trainable, strict=True))  # sums them over the workers
        return sums

    def _forward(self, images: Any) -> Any:
        return tf.cast(self._model(images, training=False), tf.float32)[:, self._fake]

    def _reduced(self, values: Any) -> Any:
        own = self._strategy.run(tf.identity, args=(values,))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, own, axis=None)
