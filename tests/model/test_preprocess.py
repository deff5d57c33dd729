from __future__ import annotations

import numpy as np
import pytest

from dfd_core.model.card import ModelCard
from dfd_core.model.preprocess import check_crops, to_model_input

CROPS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)


def test_the_default_is_the_seed_reports_division_by_255():
    images = to_model_input(CROPS, ModelCard("m"))

    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, CROPS.astype(np.float32) / 255.0)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("x/255", [0.0, 0.2, 1.0]), ("x/127.5-1", [-1.0, -0.6, 1.0]), ("x", [0.0, 51.0, 255.0])],
)
def test_each_scale_maps_pixel_values_as_its_formula_says(scale, expected):
    crops = np.zeros((1, 1, 3, 3), np.uint8)
    crops[0, 0, :, :] = [[0], [51], [255]]

    images = to_model_input(crops, ModelCard("m", scale=scale))

    np.testing.assert_allclose(images[0, 0, :, 0], expected, rtol=1e-6)


def test_bgr_reverses_the_channels_and_leaves_the_crops_alone():
    before = CROPS.copy()

    images = to_model_input(CROPS, ModelCard("m", color="bgr", scale="x"))

    np.testing.assert_array_equal(images, before[..., ::-1].astype(np.float32))
    np.testing.assert_array_equal(CROPS, before)


def test_mean_and_std_follow_the_scale_in_the_models_channel_order():
    card = ModelCard("m", color="bgr", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))

    images = to_model_input(CROPS, card)

    blue, green, red = (CROPS[..., channel].astype(np.float64) / 255 for channel in (2, 1, 0))
    expected = np.stack([(blue - 0.1) / 1, (green - 0.2) / 2, (red - 0.3) / 4], axis=-1)
    np.testing.assert_allclose(images, expected, atol=1e-6)


def test_no_crops_give_no_images():
    assert to_model_input(CROPS[:0], ModelCard("m")).shape == (0, 8, 8, 3)


@pytest.mark.parametrize(
    "crops", [CROPS.astype(np.float32), CROPS[0], CROPS[..., :1]], ids=["float", "single", "grey"]
)
def test_anything_but_a_batch_of_rgb_bytes_is_a_programmers_mistake(crops):
    with pytest.raises(ValueError, match=r"Expected uint8 \(n, size, size, 3\)"):
        to_model_input(crops, ModelCard("m"))


def test_crops_of_another_size_are_a_programmers_mistake():
    with pytest.raises(ValueError, match=r"Expected uint8 \(n, 9, 9, 3\)"):
        check_crops(CROPS, 9)
