"""The detector for archives: CenterFace, its boxes in the framing of dlib's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dfd_core.faces.centerface import CenterFace
from dfd_core.faces.detect import Face

MAX_SIDE_PX = 320
"""Longer side of the frame that the network sees, pixels, unless another is asked for."""
THRESHOLD = 0.45
"""Least value of the heat map. Lower finds more blurred backgrounds, higher loses faces that dlib finds."""
_SIDE = (0.446, 0.482)
"""dlib's box is a square: its side, in widths and heights of CenterFace's."""
_SHIFT_DOWN = 0.047
"""From the centre of CenterFace's box to that of dlib's, in heights."""


class FastFaceDetector:
    """Finds the faces that dlib finds and smaller, turned and partly covered ones, in a fraction of the time."""

    def __init__(self, *, max_side_px: int | None = None) -> None:
        """Load the network and run it once, after which it needs no more files and libraries.

        Args:
            max_side_px: Longer side of the frame that the network sees, pixels; None for `MAX_SIDE_PX`.
        """
        self._network = CenterFace(max_side_px=max_side_px or MAX_SIDE_PX, threshold=THRESHOLD)
        self(np.zeros((32, 32, 3), np.uint8))

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> list[Face]:
        """Return the faces of `rgb`, (height, width, 3) uint8 RGB, the surest first."""
        return [as_dlib_frames(box) for box in self._network.boxes(rgb)]


def as_dlib_frames(box: npt.NDArray[np.float32]) -> Face:
    """Return a box of CenterFace as the square that dlib would draw around the same face.

    The relation is fitted to faces that both find: docs/decisions/0008-fast-detector.md.

    Args:
        box: Left, top, right and bottom in pixels, and the confidence.
    """
    left, top, right, bottom, confidence = box.tolist()
    width, height = right - left, bottom - top
    half = (_SIDE[0] * width + _SIDE[1] * height) / 2
    x, y = (left + right) / 2, (top + bottom) / 2 + _SHIFT_DOWN * height
    return Face(round(x - half), round(y - half), round(x + half), round(y + half), confidence)
