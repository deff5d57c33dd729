"""The faces of one step, and the model's scores of the validation faces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

Floats = npt.NDArray[np.float32]

_EPSILON = 1e-7  # Keras' own distance of a probability from 0 and 1 in a loss


@dataclass(frozen=True, slots=True)
class Batch:
    """One worker's part of a step.

    Attributes:
        crops: uint8 (n, size, size, 3), RGB.
        is_fake: (n,) bool.
        weight: (n,) float32, at least 0; 0 for a face that only fills the batch.
        position: (n,) int64: the face's place in its table.
    """

    crops: npt.NDArray[np.uint8]
    is_fake: npt.NDArray[np.bool_]
    weight: Floats
    position: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Validated:
    """The model's scores of all validation faces, the same on every worker.

    Attributes:
        p_fake: (faces,) float32 in [0, 1], by position; NaN if the model diverged.
        is_fake: (faces,) bool.
    """

    p_fake: Floats
    is_fake: npt.NDArray[np.bool_]

    @property
    def is_finite(self) -> bool:
        """Whether every score is a number."""
        return bool(np.isfinite(self.p_fake).all())

    def figures(self) -> dict[str, float]:
        """Return loss, accuracy at 0.5 and ROC AUC over all faces; NaN if the model diverged."""
        if not self.is_finite:
            return dict.fromkeys(("val_loss", "val_accuracy", "val_auc"), math.nan)
        p_true = np.where(self.is_fake, self.p_fake, 1 - self.p_fake).astype(np.float64)
        return {
            "val_loss": float(-np.log(np.clip(p_true, _EPSILON, 1 - _EPSILON)).mean()),
            "val_accuracy": float(((self.p_fake >= 0.5) == self.is_fake).mean()),
            "val_auc": float(roc_auc_score(self.is_fake, self.p_fake)),
        }


def targets_of(is_fake: npt.NDArray[np.bool_]) -> Floats:
    """Return (n, 2) float32 in the order of the classes: fake, real.

    >>> targets_of(np.array([True, False])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return np.stack([is_fake, ~is_fake], axis=1).astype(np.float32)
