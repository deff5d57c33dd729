"""The network of the detector that ships, and its weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from dfd_core.errors import ModelError
from dfd_core.model.build import build_classifier, load_model
from dfd_core.model.card import ModelCard
from dfd_core.model.efficientnet_lite0 import efficientnet_lite0
from dfd_core.model.predictor import load_predictor
from dfd_core.model.preprocess import to_model_input
from dfd_core.model.source import DEFAULT_BUNDLE, resolve_model, starting_card


@pytest.fixture(scope="module")
def shipped():
    return load_model(resolve_model("default"))


def make_crops(count, size):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def test_the_detector_that_ships_is_this_network_weight_for_weight(shipped):
    model = build_classifier("efficientnet_lite0", input_size=192, weights="default")

    assert model.count_params() == shipped.count_params() == 3_415_586
    for received, expected in zip(model.get_weights(), shipped.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)


def test_the_detector_that_ships_computes_what_this_network_computes(shipped):
    model = build_classifier("efficientnet_lite0", input_size=192, weights="default")
    images = to_model_input(make_crops(2, 192), resolve_model("default").card)

    np.testing.assert_allclose(
        model.predict(images, verbose=0), shipped.predict(images, verbose=0), atol=1e-6
    )


def test_every_layer_is_set_as_in_the_file_that_ships(shipped):
    ours = efficientnet_lite0(input_size=192).layers[1:]
    theirs = [layer for layer in shipped.layers[1:] if layer.name not in ("pool", "classes")]

    for layer, expected in zip(ours, theirs, strict=True):
        assert (type(layer), layer.name) == (type(expected), expected.name)
        assert _settings(layer) == _settings(expected)


def _settings(layer):
    names = (
        "kernel_size",
        "strides",
        "padding",
        "use_bias",
        "epsilon",
        "max_value",
        "groups",
        "dilation_rate",
    )
    return {name: value for name, value in layer.get_config().items() if name in names}


def test_a_strided_convolution_pads_as_tensorflow_does():
    layer = efficientnet_lite0(input_size=32).get_layer("stem_conv")
    kernel = np.zeros((3, 3, 3, 32), np.float32)
    kernel[0, 0, 0, 0] = 1  # the output is the upper left pixel of each window
    layer.set_weights([kernel])
    image = np.arange(32 * 32 * 3, dtype=np.float32).reshape(1, 32, 32, 3)

    output = keras.ops.convert_to_numpy(layer(image))

    np.testing.assert_array_equal(output[0, :, :, 0], image[0, ::2, ::2, 0])


def test_scores_lie_near_those_of_keras_in_every_precision(shipped):
    source = resolve_model("default", raw=True)
    crops = make_crops(3, 192)

    expected = shipped.predict(to_model_input(crops, source.card), verbose=0)[:, 0]

    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.03)):
        received = load_predictor(source, precision=precision)(crops)
        np.testing.assert_allclose(received, expected, atol=tolerance)


def test_the_card_subtracts_127_and_divides_by_128():
    card = resolve_model("default").card

    pixels = to_model_input(np.array([[[[0, 127, 255]]]], np.uint8), card)

    np.testing.assert_array_equal(pixels, [[[[-127 / 128, 0, 1]]]])


def test_a_training_that_starts_from_the_default_scales_pixels_as_it_does():
    start, shipped = starting_card("efficientnet_lite0", "default"), resolve_model("default").card

    for name in ("input_size", "color", "scale", "mean", "std", "margin"):
        assert getattr(start, name) == getattr(shipped, name)
    assert (start.name, start.sha256) == ("efficientnet_lite0", None)


def test_a_training_from_random_weights_takes_the_backbones_defaults():
    assert starting_card("small_resnet", None) == ModelCard("small_resnet")


def test_the_weights_that_ship_fit_no_other_backbone():
    with pytest.raises(ModelError, match=r"The weights in .* do not fit small_resnet"):
        build_classifier("small_resnet", input_size=32, weights="default")


def test_the_weights_of_the_project_own_network_are_not_imagenets():
    with pytest.raises(ModelError, match="efficientnet_lite0 has no ImageNet weights"):
        build_classifier("efficientnet_lite0", input_size=32)


def test_the_terms_of_the_weights_lie_beside_them():
    assert "research" in (DEFAULT_BUNDLE / "LICENSE").read_text()
    assert DEFAULT_BUNDLE.stat() and resolve_model("default").card.extra["licence"]
