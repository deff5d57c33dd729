from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import skimage.data

from dfd_core.faces.detect import Face
from dfd_core.faces.quality import Quality, quality_of, quality_of_picture


def frame(height=240, width=320, seed=0):
    return np.random.default_rng(seed).integers(60, 200, (height, width, 3)).astype(np.uint8)


def smooth(rgb, sigma):
    return cv2.GaussianBlur(rgb, (0, 0), sigma)


def blocky(rgb, side, left=0, top=0):
    """Every block of the grid that starts at (left, top) becomes its mean, and some of its detail comes back."""
    out = rgb.astype(np.float32)
    for y in range(top - side, rgb.shape[0], side):
        for x in range(left - side, rgb.shape[1], side):
            block = out[max(0, y) : y + side, max(0, x) : x + side]
            if block.size:
                block[:] = 0.8 * block.mean((0, 1)) + 0.2 * block
    return out.astype(np.uint8)


def test_a_side_is_the_geometric_mean_of_the_box_even_where_it_leaves_the_frame():
    assert quality_of(frame(), Face(-20, 40, 80, 104, 1.0)).side_px == pytest.approx(80.0)


def test_blur_and_upscaling_lower_the_sharpness_and_brightness_does_not():
    face = Face(0, 0, 192, 192, 1.0)
    clear = np.ascontiguousarray(skimage.data.astronaut()[20:212, 130:322])

    values = [quality_of(smooth(clear, sigma), face).sharpness for sigma in (0.1, 1.0, 2.0, 5.0)]

    assert all(sharper > 1.5 * softer for sharper, softer in itertools.pairwise(values))
    darker = (clear * 0.5).astype(np.uint8)
    assert quality_of(darker, face).sharpness == pytest.approx(values[0], rel=0.05)
    half = cv2.resize(clear, (96, 96), interpolation=cv2.INTER_AREA)
    assert quality_of(half, Face(0, 0, 96, 96, 1.0)).sharpness < values[0]


def test_brightness_is_the_mean_luma_of_the_face_alone():
    rgb = np.zeros((100, 100, 3), np.uint8)
    rgb[20:60, 30:70] = (90, 90, 90)

    assert quality_of(rgb, Face(30, 20, 70, 60, 1.0)).brightness == 90.0


@pytest.mark.parametrize(("left", "top"), [(0, 0), (3, 5), (40, 17)])
def test_blocks_of_the_frames_grid_are_found_wherever_the_face_lies(left, top):
    face = Face(left, top, left + 160, top + 160, 1.0)
    plain = smooth(frame(), 1.5)

    assert quality_of(plain, face).blockiness == pytest.approx(1.0, abs=0.15)
    assert quality_of(blocky(plain, 8), face).blockiness > 1.5


def test_blocks_off_the_grid_are_not_taken_for_those_of_the_encoder():
    face = Face(0, 0, 160, 160, 1.0)

    assert quality_of(blocky(smooth(frame(), 1.5), 8, left=3, top=3), face).blockiness < 1.0


def test_a_flat_or_tiny_face_has_no_blockiness():
    flat = np.full((100, 100, 3), 70, np.uint8)

    assert quality_of(flat, Face(0, 0, 100, 100, 1.0)) == Quality(100.0, 0.0, 70.0, None)
    assert quality_of(frame(), Face(0, 0, 20, 20, 1.0)).blockiness is None


def test_a_face_that_was_cut_out_elsewhere_has_no_grid():
    rgb = frame(90, 90)

    quality = quality_of_picture(rgb)

    assert quality.blockiness is None
    assert quality.side_px == 90.0
    assert quality.sharpness == quality_of(rgb, Face(0, 0, 90, 90, 1.0)).sharpness
