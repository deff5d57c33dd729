"""Occlusion maps: how the score of a face changes when one part of it after the other is covered.

Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2013. Such a map tells what this model looks at. It is no proof
that a part was altered.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

GRID = 7
"""Parts along a side; a map takes `GRID * GRID` scores."""


def occlusion_map(
    crop: npt.NDArray[np.uint8],
    p_fake: float,
    predict: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
) -> list[float]:
    """Return by how much `p_fake` falls when each part is covered with the face's mean colour.

    Args:
        crop: The face, (side, side, 3) uint8 RGB.
        p_fake: Its score.
        predict: The model.

    Returns:
        `GRID * GRID` values in [-1, 1], row by row; 0 where the model returns no number.
    """
    edges = np.linspace(0, len(crop), GRID + 1).round().astype(int)
    colour = crop.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    covered = np.repeat(crop[None], GRID * GRID, axis=0)
    for number, picture in enumerate(covered):
        row, column = divmod(number, GRID)
        picture[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = colour
    fall = np.float32(p_fake) - predict(covered)
    return [float(value) for value in np.nan_to_num(fall, nan=0.0, posinf=0.0, neginf=0.0)]
