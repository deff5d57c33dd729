"""Labelled items with their scores, and the verdicts at a threshold.

Positive means fake. An item is called fake where `p_fake >= threshold`, both as float32, as for the verdicts in `videos/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Labelled items that have a score.

    Attributes:
        is_fake: (items,) bool.
        p_fake: (items,) float32 in [0, 1].
        group: (items,) int64, every number from 0 to `num_groups - 1`; items of one number are resampled together.
    """

    is_fake: Bools
    p_fake: npt.NDArray[np.float32]
    group: npt.NDArray[np.int64]

    @classmethod
    def of(cls, is_fake: npt.ArrayLike, p_fake: npt.ArrayLike, group: npt.ArrayLike | None = None) -> Self:
        """Return the items, their groups numbered; without groups, every item is its own.

        Raises:
            ValueError: The lengths differ, or a `p_fake` is not in [0, 1].
        """
        labels, scores = np.asarray(is_fake, np.bool_), np.asarray(p_fake, np.float32)
        keys = np.arange(len(labels)) if group is None else np.asarray(group)
        if not labels.shape == scores.shape == keys.shape or labels.ndim != 1:
            raise ValueError(
                f"Expected three (items,) arrays. Received: {labels.shape} {scores.shape} {keys.shape}"
            )
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("Expected every p_fake in [0, 1]")
        return cls(labels, scores, np.unique(keys, return_inverse=True)[1].astype(np.int64))

    @property
    def num_items(self) -> int:
        """The number of items."""
        return len(self.is_fake)

    @property
    def num_fake(self) -> int:
        """The number of items labelled fake."""
        return int(self.is_fake.sum())

    @property
    def num_real(self) -> int:
        """The number of items labelled real."""
        return self.num_items - self.num_fake

    @property
    def num_groups(self) -> int:
        """The number of groups."""
        return int(self.group.max()) + 1 if self.num_items else 0


@dataclass(frozen=True, slots=True)
class Confusion:
    """Items by label and verdict."""

    real_called_real: int
    real_called_fake: int
    fake_called_real: int
    fake_called_fake: int


def called_fake(p_fake: npt.NDArray[np.float32], threshold: float) -> Bools:
    """Return the verdicts: `p_fake >= threshold`, both as float32."""
    return p_fake >= np.float32(threshold)


def confusion(scored: Scored, threshold: float) -> Confusion:
    """Return the items by label and verdict."""
    verdicts = called_fake(scored.p_fake, threshold)
    if not scored.num_items:
        return Confusion(0, 0, 0, 0)
    cells = sk.confusion_matrix(scored.is_fake, verdicts, labels=[False, True])
    return Confusion(*(int(cell) for cell in cells.ravel()))
