"""Face crops to model input: the one place that training and scoring share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dfd_core.model.card import ModelCard

SCALE_STEPS: Mapping[str, tuple[float, float]] = {
    "x/255": (255.0, 0.0),
    "x/127.5-1": (127.5, 1.0),
    "x": (1.0, 0.0),
}
"""For each `scale` of a card, what divides a pixel value and what is then subtracted."""


def to_model_input(crops: npt.NDArray[np.uint8], card: ModelCard) -> npt.NDArray[np.float32]:
    """Return crops as the model takes them: the card's channel order, scale, mean and std.

    Args:
        crops: uint8 (n, height, width, 3), RGB, in [0, 255].
        card: The bundle's card. Its `input_size` is not applied: crops already have it.

    Returns:
        float32 (n, height, width, 3), channels in the card's `color` order.

    Raises:
        ValueError: The crops have another dtype or shape.

    Example:
        >>> red = np.full((1, 1, 1, 3), (255, 0, 0), np.uint8)
        >>> to_model_input(red, ModelCard("m", color="bgr")).tolist()
        [[[[0.0, 0.0, 1.0]]]]
    """
    check_crops(crops)
    pixels = (crops[..., ::-1] if card.color == "bgr" else crops).astype(np.float32)
    divisor, shift = SCALE_STEPS[card.scale]
    pixels /= np.float32(divisor)
    pixels -= np.float32(shift)
    if card.mean is not None:
        pixels -= np.asarray(card.mean, np.float32)
    if card.std is not None:
        pixels /= np.asarray(card.std, np.float32)
    return pixels


def check_crops(crops: npt.NDArray[np.uint8], input_size: int | None = None) -> None:
    """Raise ValueError unless `crops` is uint8 (n, size, size, 3), of `input_size` where that is given."""
    side_ok = input_size is None or crops.shape[1:3] == (input_size, input_size)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[3] != 3 or not side_ok:
        size = input_size or "size"
        raise ValueError(f"Expected uint8 (n, {size}, {size}, 3). Received: {crops.dtype} {crops.shape}")
