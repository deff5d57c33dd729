"""Pictures of faces for people to look at: a face with what is around it, as a small JPEG."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dfd_core.faces.detect import Face, widen

CONTEXT = 0.5
"""Fraction of the box's sides that is shown on each side."""
MOST_SIDE_PX = 384
MOST_BYTES = 48_000
_QUALITIES = (85, 70, 50, 30)


def picture_of(rgb: npt.NDArray[np.uint8], face: Face) -> dict[str, Any]:
    """Return the face and its surroundings as the fields of `schemas.PICTURE`.

    The picture has the frame's own resolution unless it would be larger than `MOST_SIDE_PX`.

    Args:
        rgb: The frame, (height, width, 3) uint8 RGB.
        face: A face of that frame.
    """
    height, width = rgb.shape[:2]
    left, top, right, bottom = widen(face, CONTEXT, width=width, height=height)
    shown = rgb[top:bottom, left:right]
    scale = min(1.0, MOST_SIDE_PX / max(shown.shape[:2]))
    if scale < 1:
        size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
        shown = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), np.uint8)
    box = widen(face, 0.0, width=width, height=height)
    corners = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return {
        "width": shown.shape[1],
        "height": shown.shape[0],
        **{
            name: round(value * scale)
            for name, value in zip(("left", "top", "right", "bottom"), corners, strict=True)
        },
        "jpeg": _jpeg(shown),
    }


def _jpeg(rgb: npt.NDArray[np.uint8]) -> bytes:
    """Return `rgb` as JPEG of at most `MOST_BYTES`, or of the lowest quality."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    for quality in _QUALITIES:
        content: bytes = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(content) <= MOST_BYTES:
            break
    return content
