"""One step of training in any of Keras' backends.

`model.fit` does not work under `MultiWorkerMirroredStrategy` in Keras 3, so the step is written out: the loss here, in
Keras' operations, and its gradient in one module for each backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from dfd_core.training.batch import Floats


class Steps(Protocol):
    """A model's steps in one backend. Arrays go in and come out as NumPy's."""

    num_workers: int

    def train(self, images: Floats, targets: Floats, weight: Floats) -> Floats:
        """Descend the mean loss of the global batch; return this worker's sums of loss, right answers and weight."""
        ...

    def p_fake(self, images: Floats) -> Floats:
        """Return the probability of fake: (n,) float32."""
        ...

    def sum_over_workers(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the sum of every worker's `values`."""
        ...


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss: −ln of the truth's probability, which for two classes is binary cross-entropy.

    Keras' function of that name would take the softmax' logits for a sigmoid's, and learn something else.

    Attributes:
        batch_size: Faces of the global batch.
        label_smoothing: Share of a target that goes evenly to both classes (Szegedy et al., CVPR 2016).
        num_workers: Workers that share the batch.
    """

    batch_size: int
    label_smoothing: float
    num_workers: int

    def __call__(self, outputs: Any, targets: Any, weight: Any, extra_losses: list[Any]) -> tuple[Any, Any]:
        """Return the loss to descend, and the sums of loss, right answers and weight as one (3,) tensor."""
        outputs = ops.cast(outputs, "float32")
        losses = weight * keras.losses.categorical_crossentropy(
            targets, outputs, label_smoothing=self.label_smoothing
        )
        loss = ops.sum(losses) / self.batch_size
        for extra in extra_losses:
            loss = loss + ops.cast(extra, "float32") / self.num_workers
        right = ops.cast(ops.equal(ops.argmax(outputs, 1), ops.argmax(targets, 1)), "float32")
        return loss, ops.stack([ops.sum(losses), ops.sum(right * weight), ops.sum(weight)])


def steps_for(model: Any, optimizer: Any, objective: Objective, *, strategy: Any, fake: int) -> Steps:
    """Return the steps of `model` in Keras' backend.

    Args:
        model: Takes float32 images, returns (n, 2) probabilities.
        optimizer: Built for the model's trainable variables.
        objective: The loss.
        strategy: TensorFlow's; None with another backend.
        fake: The output that is the probability of fake.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        from dfd_core.training.steps_jax import JaxSteps

        return JaxSteps(model, optimizer, objective, fake=fake)
    if backend == "torch":
        from dfd_core.training.steps_torch import TorchSteps

        return TorchSteps(model, optimizer, objective, fake=fake)
    from dfd_core.training.steps_tensorflow import TensorflowSteps

    return TensorflowSteps(model, optimizer, objective, strategy=strategy, fake=fake)


def as_array(values: Any) -> npt.NDArray[Any]:
    """Return a backend's tensor as an array of this process."""
    return np.asarray(ops.convert_to_numpy(values))
