"""The changes to pixels that video archives make, each with its own random strength."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Crop = npt.NDArray[np.uint8]
"""(height, width, 3) uint8 RGB."""

H264_CRFS = (23, 40)
JPEG_QUALITIES = (30, 95)
BLUR_SIGMAS_PX = (0.3, 1.5)
NOISE_SIGMAS = (1.0, 10.0)
RESCALE_FACTORS = (0.3, 0.9)
BRIGHTNESS_SHIFTS = (-30.0, 30.0)
CONTRAST_FACTORS = (0.75, 1.25)
ERASED_SHARES = (0.02, 0.2)
ERASED_ASPECTS = (0.3, 3.3)


def _flip(crop: Crop, rng: np.random.Generator) -> Crop:
    return crop[:, ::-1]


def _brightness(crop: Crop, rng: np.random.Generator) -> Crop:
    shift, factor = rng.uniform(*BRIGHTNESS_SHIFTS), rng.uniform(*CONTRAST_FACTORS)
    pixels = crop.astype(np.float32)
    return _to_uint8((pixels - pixels.mean()) * factor + pixels.mean() + shift)


def _rescale(crop: Crop, rng: np.random.Generator) -> Crop:
    height, width = crop.shape[:2]
    factor = rng.uniform(*RESCALE_FACTORS)
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    down = cv2.resize(crop, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(down, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _blur(crop: Crop, rng: np.random.Generator) -> Crop:
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), rng.uniform(*BLUR_SIGMAS_PX)), np.uint8)


def _noise(crop: Crop, rng: np.random.Generator) -> Crop:
    sigma = np.float32(rng.uniform(*NOISE_SIGMAS))
    return _to_uint8(crop + sigma * rng.standard_normal(crop.shape, np.float32))


def _jpeg(crop: Crop, rng: np.random.Generator) -> Crop:
    quality = int(rng.integers(JPEG_QUALITIES[0], JPEG_QUALITIES[1] + 1))
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(crop[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded[1], cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def _erase(crop: Crop, rng: np.random.Generator) -> Crop:
    height, width = crop.shape[:2]
    area = rng.uniform(*ERASED_SHARES) * height * width
    aspect = np.exp(rng.uniform(*np.log(ERASED_ASPECTS)))
    rows = int(np.clip(round(np.sqrt(area * aspect)), 1, height))
    columns = int(np.clip(round(np.sqrt(area / aspect)), 1, width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    erased = crop.copy()
    erased[top : top + rows, left : left + columns] = rng.integers(0, 256, (rows, columns, 3), np.uint8)
    return erased


def _to_uint8(pixels: npt.NDArray[Any]) -> Crop:
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


def _h264(crop: Crop, rng: np.random.Generator) -> Crop:
    """Encode the crop after a copy moved by a pixel or two, so that most blocks are predicted, on a random block grid."""
    from dfd_core.video.recompress import recompressed  # PyAV takes a third of a second to load

    height, width = crop.shape[:2]
    top, left = (int(offset) for offset in rng.integers(0, 16, 2))
    down, right = (int(shift) for shift in rng.integers(-2, 3, 2))
    crf = int(rng.integers(H264_CRFS[0], H264_CRFS[1] + 1))
    padded = np.pad(crop, ((top, 16 - top), (left, 16 - left), (0, 0)), mode="edge")
    before = np.roll(padded, (down, right), axis=(0, 1))
    decoded = recompressed([before, padded], crf=crf)[-1]
    return decoded[top : top + height, left : left + width]


CHANGES: dict[str, Callable[[Crop, np.random.Generator], Crop]] = {
    "flip": _flip,
    "brightness": _brightness,
    "rescale": _rescale,
    "blur": _blur,
    "noise": _noise,
    "h264": _h264,
    "jpeg": _jpeg,
    "erase": _erase,
}
"""Each change by its name, in the order in which they are made."""
