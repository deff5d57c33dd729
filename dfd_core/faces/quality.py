"""What a face's pixels let a classifier see: its size, its detail, its light, and the marks of compression."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dfd_core.faces.detect import Face, cut_out

SHARPNESS_PX = 192
"""Side to which a face is scaled before its detail is measured: what a face lacks at this size, a classifier cannot see."""

BLOCK_PX = 8
"""Side of the blocks that video and JPEG encoders transform."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of one face.

    Attributes:
        side_px: Geometric mean of the sides of the face's box, in pixels of the source. At least 0.
        sharpness: Mean absolute Laplacian of the luma, divided by the luma's standard deviation, of the face scaled to
            192×192 pixels. At least 0: 0 is flat, 0.03 blurred, 0.1 clear. Noise raises it.
        brightness: Mean luma, 0 to 255.
        blockiness: Mean luma step across the lines of the frame's 8-pixel grid, divided by the mean step elsewhere in the
            face. 1 without blocks, 1.5 with plain ones. None if the face is too small or too flat to tell, or if where
            the grid lies is not known.
    """

    side_px: float
    sharpness: float
    brightness: float
    blockiness: float | None

    def as_row(self) -> dict[str, float | None]:
        """Return the values by column name."""
        return asdict(self)


UNKNOWN_QUALITY: dict[str, float | None] = dict.fromkeys(Quality.__slots__)


def quality_of(rgb: npt.NDArray[np.uint8], face: Face) -> Quality:
    """Return the quality of a face of a frame.

    Args:
        rgb: The frame, (height, width, 3) uint8 RGB.
        face: A face of that frame.
    """
    luma = cv2.cvtColor(cut_out(rgb, face, margin=0.0), cv2.COLOR_RGB2GRAY)
    width, height = max(0, face.right - face.left), max(0, face.bottom - face.top)
    grid_offset = max(0, face.left) % BLOCK_PX, max(0, face.top) % BLOCK_PX
    return Quality(
        side_px=float(np.sqrt(width * height)),
        sharpness=sharpness_of(luma),
        brightness=cv2.mean(luma)[0],
        blockiness=_blockiness_of(luma, grid_offset),
    )


def quality_of_picture(rgb: npt.NDArray[np.uint8]) -> Quality:
    """Return the quality of a face that was cut out elsewhere.

    Args:
        rgb: The face, (height, width, 3) uint8 RGB. Its blockiness is None: where the video's grid lay is not known.
    """
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return Quality(
        side_px=float(np.sqrt(luma.size)),
        sharpness=sharpness_of(luma),
        brightness=cv2.mean(luma)[0],
        blockiness=None,
    )


def sharpness_of(luma: npt.NDArray[np.uint8]) -> float:
    """Return `Quality.sharpness` of a face, (height, width) uint8.

    >>> sharpness_of(np.full((200, 200), 90, np.uint8))
    0.0
    """
    shrinks = max(luma.shape) > SHARPNESS_PX
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled = cv2.resize(luma, (SHARPNESS_PX, SHARPNESS_PX), interpolation=method)
    contrast = float(cv2.meanStdDev(scaled)[1][0, 0])
    if contrast == 0:
        return 0.0
    detail = cv2.norm(cv2.Laplacian(scaled, cv2.CV_16S), cv2.NORM_L1) / scaled.size
    return float(detail) / contrast


def _blockiness_of(luma: npt.NDArray[np.uint8], offset: tuple[int, int]) -> float | None:
    """Return `Quality.blockiness` of a face, (height, width) uint8, whose first pixel is at `offset` (x, y) in the grid."""
    if min(luma.shape) < 3 * BLOCK_PX:
        return None
    across_x = cv2.reduce(cv2.absdiff(luma[:, 1:], luma[:, :-1]), 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    across_y = cv2.reduce(cv2.absdiff(luma[1:], luma[:-1]), 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    at_grid, elsewhere = 0.0, 0.0
    for steps, first in ((across_x, offset[0]), (across_y, offset[1])):
        is_grid = (np.arange(len(steps)) + first + 1) % BLOCK_PX == 0
        at_grid += float(steps[is_grid].mean())
        elsewhere += float(steps[~is_grid].mean())
    return at_grid / elsewhere if elsewhere > 0 else None
