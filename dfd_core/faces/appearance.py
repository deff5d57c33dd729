"""What a face looks like in 64 bytes, so that the faces of one person can be told from another's without video."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from dfd_core.faces.detect import Face, cut_out

NUM_BYTES = 64
_MARGIN = 0.25  # with some hair and collar, which differ more between two people than their skin
_SIDE_PX = 48
_COLOUR_BINS = (3, 4, 4)
_COLOUR_RANGES = (0, 256, 96, 160, 96, 160)  # of OpenCV's 8-bit Lab; skin, hair and cloth lie near the middle
_CELLS, _DIRECTIONS = 2, 4
_GRADIENT_WEIGHT = 0.5


def appearance_of(rgb: npt.NDArray[np.uint8], face: Face) -> bytes:
    """Return a descriptor of a face of a frame, `NUM_BYTES` long.

    48 bytes are a joint histogram of Lab colours, 16 are histograms of gradient directions in a grid of 2 by 2. Each byte is the square
    root of a share, so that the sum of absolute differences compares two of them.

    Args:
        rgb: The frame, (height, width, 3) uint8 RGB.
        face: A face of that frame.
    """
    picture = _shrunk(cut_out(rgb, face, margin=_MARGIN))
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    colours = cv2.calcHist([lab], [0, 1, 2], None, list(_COLOUR_BINS), list(_COLOUR_RANGES)).ravel()
    roots = np.concatenate([_roots(colours), _GRADIENT_WEIGHT * _roots(_gradients(lab[..., 0]))])
    return np.round(255 * roots).astype(np.uint8).tobytes()


def as_matrix(appearances: bytes) -> npt.NDArray[np.float32]:
    """Return joined descriptors as (n, NUM_BYTES) float32 in [0, 1]."""
    values = np.frombuffer(appearances, np.uint8).reshape(-1, NUM_BYTES)
    return np.asarray(values / 255, np.float32)


def _shrunk(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    step = max(
        1, min(picture.shape[:2]) // (2 * _SIDE_PX)
    )  # averaging every pixel of a large face costs a millisecond
    return np.asarray(
        cv2.resize(picture[::step, ::step], (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8
    )


def _gradients(lightness: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return gradient strength by cell and direction, (cells * cells * directions,) float32."""
    along, down = (cv2.Sobel(lightness, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    strength, angle = cv2.cartToPolar(along, down)
    direction = (angle * (_DIRECTIONS / np.pi)).astype(np.int32) % _DIRECTIONS  # a line has no front
    half = _SIDE_PX // _CELLS
    cell = np.arange(_SIDE_PX) // half
    place = (cell[:, None] * _CELLS + cell[None, :]) * _DIRECTIONS + direction
    return np.bincount(place.ravel(), strength.ravel(), _CELLS * _CELLS * _DIRECTIONS).astype(np.float32)


def _roots(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the square roots of the shares of `values` in their sum; zeros if that is zero."""
    return np.asarray(np.sqrt(values / max(float(values.sum()), 1e-9)), np.float32)
