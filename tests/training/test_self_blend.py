"""A self-blended face differs from itself inside its mask and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dfd_core.training.self_blend import NUM_IBUG, blend, blend_mask, self_blended


def face(height=96, width=80):
    rng = np.random.default_rng(2)
    rough = rng.integers(40, 220, (12, 10, 3)).astype(np.uint8)
    smooth = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def ring(count, *, centre=(0.5, 0.5), radius=0.2):
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], 1).astype(
        np.float32
    )


def ibug():
    """A schematic face: jaw, brows, nose, eyes and mouth where they are in an upright crop."""
    jaw = [(0.1 + 0.05 * i, 0.45 + 0.45 * np.sin(np.pi * i / 16)) for i in range(17)]
    brows = [(0.18 + 0.07 * i, 0.3) for i in range(10)]
    nose = [(0.5, 0.38 + 0.07 * i) for i in range(4)] + [(0.42 + 0.04 * i, 0.63) for i in range(5)]
    eyes = [(x + 0.05 * np.cos(a), 0.4 + 0.02 * np.sin(a)) for x in (0.33, 0.67) for a in range(6)]
    mouth = [(0.5 + 0.14 * np.cos(a), 0.76 + 0.05 * np.sin(a)) for a in np.linspace(0, 6, 20)]
    return np.array(jaw + brows + nose + eyes + mouth, np.float32)


@pytest.mark.parametrize("landmarks", [None, ring(12), ibug()], ids=["ellipse", "hull", "ibug"])
def test_a_self_blended_face_differs_inside_its_mask_and_nowhere_else(landmarks):
    crop = face()
    for seed in range(30):
        mask = blend_mask((96, 80), landmarks, np.random.default_rng(seed))
        blended = blend(crop, mask, np.random.default_rng(100 + seed))
        assert (blended.shape, blended.dtype) == (crop.shape, np.uint8)
        assert (blended[mask == 0] == crop[mask == 0]).all()
        inside = mask > 0.2
        assert (blended[inside] != crop[inside]).any(axis=1).mean() > 0.8
        assert 0 < mask.max() <= 1
        assert 0.02 < (mask > 0).mean() < 0.95
    assert (crop == face()).all()


def test_landmarks_decide_where_the_mask_is():
    top, bottom = (
        np.mean(
            [
                blend_mask((96, 96), ring(20, centre=(0.5, y)), np.random.default_rng(seed))
                for seed in range(10)
            ],
            0,
        )
        for y in (0.25, 0.75)
    )
    assert np.average(np.arange(96), weights=top.sum(1)) < 35
    assert np.average(np.arange(96), weights=bottom.sum(1)) > 60


def test_the_68_points_give_masks_of_three_kinds():
    assert len(ibug()) == NUM_IBUG
    areas = [(blend_mask((96, 96), ibug(), np.random.default_rng(seed)) > 0.12).mean() for seed in range(60)]
    assert np.ptp(areas) > 0.2


def test_too_few_points_count_as_none():
    few, none = (blend_mask((64, 64), points, np.random.default_rng(5)) for points in (ring(5), None))
    assert (few == none).all()


def test_the_same_random_numbers_give_the_same_face():
    one, other = (self_blended(face(), ibug(), np.random.default_rng(7)) for _ in range(2))
    assert (one == other).all()
