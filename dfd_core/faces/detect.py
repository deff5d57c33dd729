"""Detect faces and cut them out. The only importer of dlib."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import cv2
import dlib
import numpy as np
import numpy.typing as npt

from dfd_core.faces.images import resized


@dataclass(frozen=True, slots=True)
class Face:
    """One detection, as dlib gives it: a box in pixels that may leave the frame, right and bottom inclusive in dlib's
    own arithmetic and used as exclusive ends of the crop, as the seed does.

    Attributes:
        confidence: The detector's margin over its threshold; higher is surer, no upper bound.
    """

    left: int
    top: int
    right: int
    bottom: int
    confidence: float


class Detect(Protocol):
    """A face detector."""

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> list[Face]:
        """Return the faces of a frame, (height, width, 3) uint8 RGB."""
        ...


class FrontalFaceDetector:
    """dlib's frontal face detector (HOG features, a linear SVM and a pyramid; King 2009, "Dlib-ml")."""

    def __init__(self, *, upsample: int = 0, max_side_px: int | None = None) -> None:
        """Take how frames are seen. The first frame loads the detector, in half a second.

        Args:
            upsample: How often the frame is doubled first; 0 finds faces of about 80 pixels and more.
            max_side_px: Longer side of the frame that it sees, pixels; a larger frame is scaled down. None for all as
                they are.
        """
        self._upsample = upsample
        self._max_side_px = max_side_px

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> list[Face]:
        """Return the faces of `rgb`, (height, width, 3) uint8 RGB, in the detector's order."""
        return detect_scaled(rgb, self._find, max_side_px=self._max_side_px)

    @cached_property
    def _detector(self) -> Any:
        return dlib.get_frontal_face_detector()

    def _find(self, rgb: npt.NDArray[np.uint8]) -> list[Face]:
        boxes, confidences, _ = self._detector.run(rgb, self._upsample)
        return [
            Face(box.left(), box.top(), box.right(), box.bottom(), float(confidence))
            for box, confidence in zip(boxes, confidences, strict=True)
        ]


def detect_scaled(rgb: npt.NDArray[np.uint8], detect: Detect, *, max_side_px: int | None) -> list[Face]:
    """Return the faces that `detect` finds in a frame scaled down, with their boxes in pixels of the frame itself.

    `FrontalFaceDetector` then finds faces of about 80 pixels of the scaled frame and more.

    Args:
        rgb: The frame, (height, width, 3) uint8 RGB.
        detect: The detector.
        max_side_px: Longer side of what it sees, pixels (averaged over areas). A frame that is no larger, or any frame
            where this is None, is seen as it is, and the boxes are the detector's own.

    Returns:
        The faces in the detector's order; boxes rounded to whole pixels, confidences untouched.
    """
    height, width = rgb.shape[:2]
    if max_side_px is None or max(height, width) <= max_side_px:
        return detect(rgb)
    scale = max_side_px / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    x, y = width / size[0], height / size[1]
    return [
        Face(
            round(face.left * x),
            round(face.top * y),
            round(face.right * x),
            round(face.bottom * y),
            face.confidence,
        )
        for face in detect(np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8))
    ]


def widen(face: Face, margin: float, *, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the face's box widened by `margin` of its sides on each side and clipped to the frame.

    Returns:
        `(left, top, right, bottom)` in pixels, right and bottom exclusive, at least one pixel each way.

    Example:
        >>> widen(Face(-5, 10, 45, 60, 1.0), 0.1, width=100, height=64)
        (0, 5, 50, 64)
    """
    extra_x, extra_y = round(margin * (face.right - face.left)), round(margin * (face.bottom - face.top))
    left, right = _clip(face.left - extra_x, face.right + extra_x, width)
    top, bottom = _clip(face.top - extra_y, face.bottom + extra_y, height)
    return left, top, right, bottom


def _clip(start: int, end: int, size: int) -> tuple[int, int]:
    start = min(max(start, 0), size - 1)
    return start, max(min(end, size), start + 1)


def cut_out(rgb: npt.NDArray[np.uint8], face: Face, *, margin: float) -> npt.NDArray[np.uint8]:
    """Return the face of a frame as it is, a view of `rgb`: (height, width, 3) uint8 RGB, never empty.

    Args:
        rgb: The frame, (height, width, 3) uint8 RGB.
        face: A face of that frame.
        margin: Fraction of the box's sides that is added on each side.
    """
    height, width = rgb.shape[:2]
    left, top, right, bottom = widen(face, margin, width=width, height=height)
    return rgb[top:bottom, left:right]


def crop(rgb: npt.NDArray[np.uint8], face: Face, *, margin: float, crop_px: int) -> npt.NDArray[np.uint8]:
    """Return the face of a frame, resized.

    Args:
        rgb: The frame, (height, width, 3) uint8 RGB.
        face: A face of that frame.
        margin: Fraction of the box's sides that is added on each side.
        crop_px: Side of the result, pixels.

    Returns:
        (crop_px, crop_px, 3) uint8 RGB, bilinear as the seed's `cv2.resize`. Never empty.
    """
    return resized(cut_out(rgb, face, margin=margin), crop_px)
