"""Self-blended faces (Shiohara and Yamasaki, CVPR 2022): a real face pasted onto itself, as a fake to learn from.

The pasted copy has other colours, another sharpness and is moved a little. What a model can learn from it are the traces of
blending, which most manipulations leave, and nothing of a particular generator.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Crop = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.float32]
"""(height, width) float32 in [0, 1]: the share of the pasted copy."""
Landmarks = npt.NDArray[np.float32]
"""(points, 2) float32: x and y as fractions of the crop's width and height."""

NUM_IBUG = 68
"""Points of the iBUG scheme, in whose order the eyebrows, the jaw and the nose are known."""
MIN_LANDMARKS = 10
"""Fewer points do not outline a face."""

_ELLIPSE_AXES = ((0.3, 0.4), (0.35, 0.45))  # half width, half height: least and most, in sides of the crop
_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
_FOREHEAD = 0.35
_LEAST = 1 / 128  # below it a pixel would round to what it was


def self_blended(crop: Crop, landmarks: Landmarks | None, rng: np.random.Generator) -> Crop:
    """Return the face pasted onto itself; `crop` stays as it is.

    Args:
        crop: (height, width, 3) uint8 RGB of a real face.
        landmarks: Outline the face; None for an ellipse in the crop.
        rng: Source of every random choice.
    """
    return blend(crop, blend_mask((crop.shape[0], crop.shape[1]), landmarks, rng), rng)


def has_outline(num_landmarks: int) -> bool:
    """Return whether so many landmarks outline a face; otherwise it is blended in an ellipse."""
    return num_landmarks >= MIN_LANDMARKS


def blend(crop: Crop, mask: Mask, rng: np.random.Generator) -> Crop:
    """Return `crop` with its changed copy pasted where `mask` is above 0; every other pixel is as it was."""
    source = _moved(_with_other_detail(_with_other_colours(crop, rng), rng), rng)
    share = mask[..., None]
    mixed = crop + (source.astype(np.float32) - crop) * share
    return np.where(share > 0, np.clip(np.rint(mixed), 0, 255), crop).astype(np.uint8)


def blend_mask(shape: tuple[int, int], landmarks: Landmarks | None, rng: np.random.Generator) -> Mask:
    """Return where the copy is pasted: a deformed, blurred region of the face, never 0 everywhere."""
    outline = landmarks is not None and has_outline(len(landmarks))
    region = _hull(shape, landmarks, rng) if outline and landmarks is not None else _ellipse(shape, rng)
    soft = _deformed(region, rng)
    side_px = min(shape)
    soft = cv2.GaussianBlur(soft, (0, 0), rng.uniform(0.01, 0.05) * side_px)
    mask = soft / max(float(soft.max()), 1e-6) * rng.choice(_RATIOS)
    return np.where(mask < _LEAST, 0, mask).astype(np.float32)


def _ellipse(shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    height, width = shape
    half_width, half_height = (rng.uniform(*ends) for ends in zip(*_ELLIPSE_AXES, strict=True))
    centre = (round(width * rng.uniform(0.47, 0.53)), round(height * rng.uniform(0.5, 0.56)))
    axes = (max(1, round(width * half_width)), max(1, round(height * half_height)))
    return np.asarray(cv2.ellipse(np.zeros(shape, np.float32), centre, axes, 0, 0, 360, 1.0, -1), np.float32)


def _hull(shape: tuple[int, int], landmarks: Landmarks, rng: np.random.Generator) -> Mask:
    """Return the hull of the landmarks, or of one of three regions of the face if they are iBUG's 68."""
    points = landmarks * np.array([shape[1], shape[0]], np.float32)
    if len(points) == NUM_IBUG:
        brows, nose = points[17:27], points[27:31].mean(axis=0)
        regions = (
            np.concatenate([points, brows + (brows - nose) * _FOREHEAD]),  # with the forehead
            points[17:],  # without the jaw
            np.concatenate([points[2:15], points[29:36]]),  # from the nose down
        )
        points = regions[rng.integers(len(regions))]
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    return np.asarray(cv2.fillConvexPoly(np.zeros(shape, np.float32), hull, 1.0), np.float32)


def _deformed(region: Mask, rng: np.random.Generator) -> Mask:
    """Return the region turned, stretched and bent a little; nothing reaches the crop's edge."""
    height, width = region.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    bend = rng.normal(0, 0.02, (2, 5, 5)).astype(np.float32)
    bend_x, bend_y = (cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in bend)
    matrix = _affine(region.shape, rng, turn_deg=4, stretch=0.08, shift=0.03)
    x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2] + bend_x * width
    y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2] + bend_y * height
    bent = cv2.remap(region, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    return bent if bent.any() else region


def _affine(
    shape: tuple[int, ...], rng: np.random.Generator, *, turn_deg: float, stretch: float, shift: float
) -> npt.NDArray[np.float64]:
    height, width = shape[:2]
    turn, scale = rng.uniform(-turn_deg, turn_deg), rng.uniform(1 - stretch, 1 + stretch)
    matrix: npt.NDArray[np.float64] = cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale)
    matrix[:, 2] += rng.uniform(-shift, shift, 2) * (width, height)
    return matrix


def _with_other_colours(crop: Crop, rng: np.random.Generator) -> Crop:
    shifted = np.clip(crop + rng.uniform(-20, 20, 3), 0, 255).astype(np.uint8)
    hsv = cv2.cvtColor(shifted, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-8, 8)) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.7, 1.3), 0, 255)
    pixels = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    changed = (pixels - pixels.mean()) * rng.uniform(0.85, 1.15) + pixels.mean() + rng.uniform(-15, 15)
    return np.asarray(np.clip(np.rint(changed), 0, 255), np.uint8)


def _with_other_detail(crop: Crop, rng: np.random.Generator) -> Crop:
    height, width = crop.shape[:2]
    if rng.random() < 0.5:
        factor = rng.uniform(0.3, 0.9)
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        down = cv2.resize(crop, small, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(down, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    smooth = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.6, 1.5)).astype(np.float32)
    sharp = crop + (crop - smooth) * rng.uniform(0.3, 1.5)
    return np.asarray(np.clip(np.rint(sharp), 0, 255), np.uint8)


def _moved(crop: Crop, rng: np.random.Generator) -> Crop:
    height, width = crop.shape[:2]
    matrix = _affine(crop.shape, rng, turn_deg=1.5, stretch=0.05, shift=0.02)
    moved = cv2.warpAffine(crop, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.uint8)
