from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import random
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from dfd_core.errors import ModelError
from dfd_core.model.backbones import BACKBONES, default_scale
from dfd_core.model.build import build_classifier, load_model, save_bundle
from dfd_core.model.card import ModelCard
from dfd_core.model.predictor import load_predictor, p_fake_of, padded_count
from dfd_core.model.preprocess import to_model_input
from dfd_core.model.source import ModelSource, resolve_model, untrained_card

layers = keras.layers


def make_crops(count, size, seed=0):
    """Blurry coloured noise, whose contrast and coarseness differ from crop to crop: uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(seed)
    crops = []
    for _ in range(count):
        side = int(rng.choice([4, 8, 16, 32]))
        coarse = rng.normal(rng.uniform(60, 200), rng.uniform(5, 60), (size // side, size // side, 3))
        crops.append(np.kron(coarse, np.ones((side, side, 1))))
    return np.clip(crops, 0, 255).astype(np.uint8)


def settle_batch_norms(model, images):
    """Give every batch normalisation the statistics of `images`, as training would, so that features vary."""
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)


def small_model(head, size=96):
    """Every pattern that the predictor rewrites, in few weights."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(scale=False)(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)
    x = layers.Activation("silu")(layers.BatchNormalization(gamma_initializer="random_uniform")(x))
    before = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Conv2D(16, 1, bias_initializer="random_normal")(before)
    x = layers.Add()([before, layers.Rescaling(0.17)(x)])
    x = layers.Concatenate()(
        [x, layers.Conv2D(4, 1, activation="relu")(x), layers.MaxPooling2D(3, 1, "same")(x)]
    )
    gate = layers.Conv2D(36, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Dropout(0.5)(layers.Multiply()([x, gate]))
    x = layers.SeparableConv2D(16, 3, activation="relu6")(x)
    return keras.Model(inputs, head(layers.GlobalAveragePooling2D()(x)))


def saved(model, folder, **fields):
    card = ModelCard(**{"name": "small", "input_size": model.input_shape[1] or 96, **fields})
    save_bundle(model, card, folder)
    return resolve_model(folder)


def spread(model, images, gain=2.0):
    """Set the last layer so that its probabilities for `images` spread over (0, 1)."""
    features = keras.Model(model.inputs, model.layers[-1].input)(images, training=False).numpy()
    centred = features - features.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    sides = np.float32([-0.5, 0.5] if model.output_shape[-1] == 2 else [1.0])
    kernel = direction[:, None] * sides * gain / (features @ direction).std()
    model.layers[-1].set_weights([kernel, -(features.mean(axis=0) @ kernel)])


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """A model by someone else: one sigmoid where 1 means real, 96 pixels, BGR in [-1, 1]."""
    folder = tmp_path_factory.mktemp("binary")
    model = small_model(layers.Dense(1, activation="sigmoid"))
    card = ModelCard("binary", input_size=96, color="bgr", scale="x/127.5-1")
    images = to_model_input(make_crops(16, 96), card)
    settle_batch_norms(model, images)
    spread(model, images)
    save_bundle(model, card, folder)
    return model, card, folder


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """The default classifier with settled statistics and spread outputs, its crops and Keras' own answer."""
    folder = tmp_path_factory.mktemp("inception")
    crops = make_crops(12, 128)
    card = ModelCard("inception")
    images = to_model_input(crops, card)
    model = build_classifier(weights=None)
    settle_batch_norms(model, images)
    spread(model, images)
    save_bundle(model, card, folder)
    return resolve_model(folder), crops, model(images, training=False).numpy()[:, 0]


OTHER_PROCESS = """
import hashlib, json, time
import numpy as np, tensorflow as tf
from dfd_core.model.source import ModelSource, untrained_card
from dfd_core.errors import ModelError
from dfd_core.model.build import build_classifier
from dfd_core.model.predictor import load_predictor

source = ModelSource(untrained_card("mobilenet", input_size=32), backbone="mobilenet")
for _ in range(2):
    load_predictor(source, num_threads=1)(np.zeros((2, 32, 32, 3), np.uint8))
config = tf.config.threading
threads = [config.get_intra_op_parallelism_threads(), config.get_inter_op_parallelism_threads()]
model = build_classifier("mobilenet", input_size=32, weights=None, seed=7)
weights = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
started_s = time.monotonic()
try:
    build_classifier("mobilenet")
except ModelError as error:
    offline_s, offline_error = time.monotonic() - started_s, str(error)
print(json.dumps(dict(threads=threads, weights=weights, offline_s=offline_s, offline_error=offline_error)))
"""


@pytest.fixture(scope="module")
def other_process(tmp_path_factory):
    """What a process of its own, without a network and without cached weights, found."""
    environment = {
        **os.environ,
        "https_proxy": "http://127.0.0.1:9",
        "KERAS_HOME": str(tmp_path_factory.mktemp("keras")),
    }
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---- predicting ----------------------------------------------------------------------------------------------------


def test_a_foreign_binary_model_gives_the_numbers_of_calling_it_directly(binary):
    model, card, folder = binary
    crops = make_crops(20, 96, seed=1)
    p_real = model.predict(to_model_input(crops, card), verbose=0)[:, 0]

    p_fake = load_predictor(resolve_model(folder), precision="float32", batch_size=8)(crops)

    assert p_fake.dtype == np.float32
    assert p_fake.std() > 0.1
    np.testing.assert_allclose(p_fake, 1 - p_real, atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_stays_close(binary, precision):
    model, card, folder = binary
    crops = make_crops(20, 96, seed=1)
    p_real = model.predict(to_model_input(crops, card), verbose=0)[:, 0]

    predictor = load_predictor(resolve_model(folder), precision=precision)

    assert predictor.precision == precision
    difference = np.abs(predictor(crops) - (1 - p_real)).max()
    assert 0 < difference <= 0.03


@pytest.mark.slow
def test_the_default_classifier_in_float32_gives_the_numbers_of_keras(inception):
    source, crops, expected = inception
    assert expected.min() < 0.2
    assert expected.max() > 0.8

    predictor = load_predictor(source, precision="float32", batch_size=16)

    assert predictor.precision == "float32"
    np.testing.assert_allclose(predictor(crops), expected, atol=1e-5)


@pytest.mark.slow
def test_the_default_classifier_in_bfloat16_differs_by_at_most_three_hundredths(inception):
    source, crops, expected = inception

    predictor = load_predictor(source, precision="bfloat16", batch_size=16)

    assert predictor.precision == "bfloat16"
    difference = np.abs(predictor(crops) - expected).max()
    assert 0 < difference <= 0.03


def test_any_number_of_crops_gives_as_many_scores_and_padding_changes_none(binary):
    _, _, folder = binary
    predictor = load_predictor(resolve_model(folder), precision="float32", batch_size=16)
    crops = make_crops(37, 96)
    whole = predictor(crops)

    for count in (0, 1, 2, 3, 5, 15, 16, 17, 33):
        part = predictor(crops[:count])
        assert part.shape == (count,)
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, whole[:count], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64, 100])
def test_batches_come_in_few_sizes_that_hold_the_crops(batch_size):
    sizes = [padded_count(count, batch_size) for count in range(1, batch_size + 1)]

    assert all(count <= size <= batch_size for count, size in enumerate(sizes, 1))
    assert sizes[-1] == batch_size
    assert len(set(sizes)) <= 13


def test_auto_reports_what_it_chose(binary):
    predictor = load_predictor(resolve_model(binary[2]))

    assert predictor.precision in ("float32", "bfloat16", "float16")
    assert predictor.device in ("cpu", "gpu")


@pytest.mark.gpu
def test_on_a_gpu_auto_is_float16_and_stays_close(binary):
    model, card, folder = binary
    crops = make_crops(20, 96, seed=1)

    predictor = load_predictor(resolve_model(folder))

    assert (predictor.device, predictor.precision) == ("gpu", "float16")
    expected = 1 - model.predict(to_model_input(crops, card), verbose=0)[:, 0]
    np.testing.assert_allclose(predictor(crops), expected, atol=0.03)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ModelError, match=r"Expected one of auto, float32, .* Received: 'int8'"):
        load_predictor(ModelSource(untrained_card("vgg16"), backbone="vgg16"), precision="int8")


def test_crops_of_another_size_are_a_programmers_mistake(binary):
    predictor = load_predictor(resolve_model(binary[2]), precision="float32")

    with pytest.raises(ValueError, match=r"Expected uint8 \(n, 96, 96, 3\)"):
        predictor(make_crops(2, 32))


def test_a_model_with_its_own_rescaling_takes_raw_pixels(tmp_path):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    source = saved(model, tmp_path, scale="x", input_size=64, classes=("real", "fake"))
    crops = make_crops(5, 64)

    p_fake = load_predictor(source, precision="float32")(crops)

    np.testing.assert_allclose(p_fake, model.predict(crops.astype(np.float32), verbose=0)[:, 1], atol=1e-5)


def test_mean_and_std_are_applied_as_in_training(tmp_path):
    model = small_model(layers.Dense(2, activation="softmax"), size=32)
    source = saved(model, tmp_path, color="bgr", mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4])
    crops = make_crops(5, 32)

    p_fake = load_predictor(source, precision="float32")(crops)

    expected = model.predict(to_model_input(crops, source.card), verbose=0)[:, 0]
    np.testing.assert_allclose(p_fake, expected, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_a_model_with_a_dtype_policy_gives_the_numbers_of_calling_it_directly(tmp_path, policy):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(8, 3, dtype=policy),
            layers.BatchNormalization(dtype=policy),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid", dtype=policy),
        ]
    )
    source = saved(model, tmp_path, classes=["fake"])
    crops = make_crops(6, 32)

    p_fake = load_predictor(source, precision="float32")(crops)

    expected = model(to_model_input(crops, source.card), training=False).numpy().astype(np.float32)[:, 0]
    np.testing.assert_allclose(p_fake, expected, atol=1e-5 if policy == "float64" else 5e-3)


def test_layers_that_only_act_in_training_do_nothing(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.RandomFlip(),
            layers.RandomRotation(0.5),
            layers.GaussianNoise(1.0),
            layers.Conv2D(4, 3),
            layers.SpatialDropout2D(0.5),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    source = saved(model, tmp_path, classes=["fake"])
    crops = make_crops(4, 32)
    predictor = load_predictor(source, precision="float32")

    expected = model(to_model_input(crops, source.card), training=False).numpy()[:, 0]
    np.testing.assert_allclose(predictor(crops), expected, atol=1e-5)
    np.testing.assert_array_equal(predictor(crops), predictor(crops))


def test_a_plain_convolution_that_feeds_two_branches_is_left_as_it_is(tmp_path):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((32, 32, 3))
    shared = layers.Conv2D(4, 3)(inputs)
    scaled = layers.Rescaling(3.0, offset=-1.0)(shared)
    merged = layers.Subtract()([layers.Multiply()([scaled, scaled]), shared])
    outputs = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(merged))
    model = keras.Model(inputs, outputs)
    source = saved(model, tmp_path)
    crops = make_crops(4, 32)

    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.02)):
        p_fake = load_predictor(source, precision=precision)(crops)
        expected = model.predict(to_model_input(crops, source.card), verbose=0)[:, 0]
        np.testing.assert_allclose(p_fake, expected, atol=tolerance)


def test_constants_on_either_side_of_an_operation_fold_into_the_convolution(tmp_path):
    keras.utils.set_random_seed(5)
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3)(inputs)
    x = 2.0 - ((x * np.float32([1, 2, 3, 4])) / 3.0 - np.float32([0.1, 0.2, 0.3, 0.4]))
    x = 1.0 / (3.0 + layers.ReLU()(x))
    x = layers.Conv2D(4, 1)(x) - np.float32(np.arange(30)[:, None, None] / 30)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Flatten()(x)))
    source = saved(model, tmp_path)
    crops = make_crops(4, 32)

    p_fake = load_predictor(source, precision="float32")(crops)

    expected = model.predict(to_model_input(crops, source.card), verbose=0)[:, 0]
    np.testing.assert_allclose(p_fake, expected, atol=1e-5)


def test_a_kept_graph_gives_the_same_scores_and_is_used(binary, tmp_path):
    source, crops = resolve_model(binary[2]), make_crops(5, 96)
    first = load_predictor(source, precision="bfloat16", cache_dir=tmp_path / "graphs")(crops)
    (kept,) = (tmp_path / "graphs").glob("*.pb")
    written_ns = kept.stat().st_ctime_ns

    again = load_predictor(source, precision="bfloat16", cache_dir=tmp_path / "graphs")(crops)

    np.testing.assert_array_equal(again, first)
    assert list((tmp_path / "graphs").glob("*.pb")) == [kept]
    assert kept.stat().st_ctime_ns > written_ns  # touched, not written again
    assert kept.stat().st_mode & 0o077 == 0


def test_another_card_precision_or_model_has_a_graph_of_its_own(binary, tmp_path):
    source, crops = resolve_model(binary[2]), make_crops(5, 96)
    other = dataclasses.replace(source, card=dataclasses.replace(source.card, scale="x/255"))
    for variant, precision in ((source, "float32"), (source, "bfloat16"), (other, "float32")):
        expected = load_predictor(variant, precision=precision)(crops)
        np.testing.assert_array_equal(
            load_predictor(variant, precision=precision, cache_dir=tmp_path)(crops), expected
        )

    assert len(list(tmp_path.glob("*.pb"))) == 3


def test_a_damaged_or_unwritable_cache_costs_time_only(binary, tmp_path):
    source, crops = resolve_model(binary[2]), make_crops(5, 96)
    expected = load_predictor(source, precision="float32", cache_dir=tmp_path)(crops)
    (kept,) = tmp_path.glob("*.pb")
    kept.write_bytes(b"no graph")

    np.testing.assert_array_equal(
        load_predictor(source, precision="float32", cache_dir=tmp_path)(crops), expected
    )
    np.testing.assert_array_equal(
        load_predictor(source, precision="float32", cache_dir=kept)(crops), expected
    )


def test_a_kept_graph_does_not_stand_in_for_a_model_that_changed(tmp_path):
    source = saved(
        keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1)]), tmp_path / "m"
    )
    load_predictor(source, cache_dir=tmp_path / "graphs")
    with source.path.open("ab") as file:
        file.write(b"more")

    with pytest.raises(ModelError, match="has changed since its card was written"):
        load_predictor(source, cache_dir=tmp_path / "graphs")


# ---- what an output means ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "output", "raw", "p_fake"),
    [
        (["fake", "real"], "probability", [0.2, 0.8], 0.2),
        (["real", "fake"], "probability", [0.2, 0.8], 0.8),
        (["fake", "real"], "probability", [0.2], 0.8),
        (["real", "fake"], "probability", [0.2], 0.2),
        (["real"], "probability", [0.2], 0.8),
        (["fake"], "probability", [0.2], 0.2),
        (["fake", "real"], "logit", [np.log(3.0), 0.0], 0.75),
        (["real", "fake"], "logit", [np.log(3.0), 0.0], 0.25),
        (["fake"], "logit", [np.log(3.0)], 0.75),
        (["fake", "real"], "logit", [np.log(3.0)], 0.25),
        (["fake"], "logit", [-1000.0], 0.0),
        (["fake", "real"], "logit", [1000.0, -1000.0], 1.0),
    ],
)
def test_outputs_become_p_fake_as_the_card_says(classes, output, raw, p_fake):
    card = ModelCard("m", classes=classes, output=output)

    result = p_fake_of(np.float32([raw]), card)

    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [p_fake], atol=1e-6)


def test_logits_that_the_card_calls_probabilities_are_refused_with_the_remedy():
    with pytest.raises(ModelError, match=r'set `output` in card\.json to "logit".*Received: -3 to 2\.5'):
        p_fake_of(np.float32([[-3.0], [2.5]]), ModelCard("m"))


@pytest.mark.parametrize("output", ["probability", "logit"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_no_number_gives_none_and_spoils_no_other(output, value):
    p_fake = p_fake_of(np.float32([[0.5, 0.5], [0.5, value]]), ModelCard("m", output=output))

    np.testing.assert_array_equal(p_fake, np.float32([0.5, np.nan]))


@pytest.mark.parametrize(
    ("units", "classes", "received"),
    [(3, ["fake", "real"], r"\(3,\)"), (2, ["real"], r"\(2,\)")],
)
def test_a_model_with_other_outputs_than_classes_is_refused(tmp_path, units, classes, received):
    model = keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(units)])
    source = saved(model, tmp_path, classes=classes)

    with pytest.raises(ModelError, match=rf"does not fit the classes.*Received: {received}"):
        load_predictor(source)


def test_a_model_with_two_heads_is_refused(tmp_path):
    inputs = keras.Input((32, 32, 3))
    flat = layers.Flatten()(inputs)
    source = saved(keras.Model(inputs, [layers.Dense(1)(flat), layers.Dense(1)(flat)]), tmp_path)

    with pytest.raises(ModelError, match="Received: 2 outputs"):
        load_predictor(source)


def test_a_model_that_cannot_take_the_cards_size_is_refused_in_one_line(tmp_path):
    model = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(2, 20), layers.GlobalMaxPool2D(), layers.Dense(1)]
    )
    source = saved(model, tmp_path, input_size=16)

    with pytest.raises(ModelError, match="cannot be run on 16×16 RGB images") as refused:
        load_predictor(source)

    assert "\n" not in str(refused.value)


# ---- building ------------------------------------------------------------------------------------------------------


def test_every_keras_application_can_be_named():
    constructors = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}

    assert {name.replace("_", "") for name in BACKBONES} == {name.lower() for name in constructors}


def test_the_classifier_is_the_seed_reports():
    model = build_classifier("mobilenet_v3_small", input_size=64, weights=None)

    assert [type(layer).__name__ for layer in model.layers[1:]] == ["GlobalAveragePooling2D", "Dense"]
    assert model.input_shape == (None, 64, 64, 3)
    assert model.output_shape == (None, 2)
    assert model.layers[-1].activation is keras.activations.softmax


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "efficientnet_v2_b0", "efficientnet_b0"])
def test_a_backbone_rescales_pixels_once_in_its_own_layers_or_in_preprocessing(backbone):
    model = build_classifier(backbone, input_size=32, weights=None)

    first = [
        layer for layer in model.layers[0].layers if layer.name.startswith(("rescaling", "normalization"))
    ]
    assert bool(first) == (default_scale(backbone) == "x")


def test_the_same_seed_gives_the_same_weights_in_every_process(other_process):
    here, other = (
        hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
        for model in (
            build_classifier("mobilenet", input_size=32, weights=None, seed=seed) for seed in (7, 8)
        )
    )

    assert other_process["weights"] == here
    assert here != other


def test_building_leaves_the_process_random_numbers_alone():
    random.seed(1)
    expected = random.random()
    random.seed(1)

    build_classifier("mobilenet", input_size=32, weights=None)

    assert random.random() == expected


def test_imagenet_weights_without_a_network_fail_soon_in_one_line(other_process):
    assert "The ImageNet weights of mobilenet cannot be had" in other_process["offline_error"]
    assert "pass `--weights none` or `--weights PATH`" in other_process["offline_error"]
    assert "\n" not in other_process["offline_error"]
    assert other_process["offline_s"] < 60


def test_weights_of_an_earlier_bundle_are_taken_over(tmp_path):
    earlier = build_classifier("mobilenet", input_size=32, weights=None, seed=1)
    save_bundle(earlier, ModelCard("m", input_size=32), tmp_path)

    model = build_classifier("mobilenet", input_size=32, weights=tmp_path, seed=2)

    for received, expected in zip(model.get_weights(), earlier.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)


def test_backbone_weights_are_taken_from_an_h5_file(tmp_path):
    earlier = build_classifier("mobilenet", input_size=32, weights=None, seed=1)
    path = tmp_path / "backbone.weights.h5"
    earlier.layers[0].save_weights(path)

    model = build_classifier("mobilenet", input_size=32, weights=path, seed=2)

    for received, expected in zip(
        model.layers[0].get_weights(), earlier.layers[0].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(received, expected)


def test_weights_of_another_backbone_are_refused(binary):
    with pytest.raises(ModelError, match=r"The weights in .* do not fit mobilenet") as refused:
        build_classifier("mobilenet", input_size=32, weights=binary[2])

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("weights", ["nowhere.h5", "imagnet"])
def test_weights_that_are_not_there_are_refused(weights):
    with pytest.raises(ModelError, match=rf"Expected imagenet, none, or a bundle.*Received: {weights}"):
        build_classifier("mobilenet", weights=weights)


def test_a_size_that_the_backbone_does_not_take_is_refused():
    with pytest.raises(ModelError, match="cannot build xception for 32 pixels"):
        build_classifier("xception", input_size=32, weights=None)


def test_an_untrained_source_is_scored_with_random_weights():
    source = ModelSource(untrained_card("mobilenet", input_size=32), backbone="mobilenet")
    crops = make_crops(3, 32)

    p_fake = load_predictor(source, precision="float32")(crops)

    expected = build_classifier("mobilenet", input_size=32, weights=None)
    np.testing.assert_allclose(
        p_fake, expected.predict(to_model_input(crops, source.card), verbose=0)[:, 0], atol=1e-5
    )


# ---- saving and loading --------------------------------------------------------------------------------------------


def test_a_saved_bundle_loads_back_with_its_hash_and_versions(tmp_path):
    model = small_model(layers.Dense(1, activation="sigmoid"), size=32)

    card = save_bundle(
        model, ModelCard("m", input_size=32, versions={"dfd": "1"}), tmp_path / "new" / "bundle"
    )

    source = resolve_model(tmp_path / "new" / "bundle")
    assert source.card == card
    assert card.versions == {
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "dfd": "1",
    }
    for received, expected in zip(load_model(source).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)


def test_saving_again_replaces_the_bundle_and_leaves_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(1)])
        card = save_bundle(model, ModelCard("m", input_size=32), tmp_path)

    assert resolve_model(tmp_path).card == card
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["card.json", "model.keras", "notes.txt"]


def test_a_file_that_changed_after_it_was_resolved_is_refused(tmp_path):
    source = saved(keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(1)]), tmp_path)
    with source.path.open("ab") as file:
        file.write(b"more")

    with pytest.raises(ModelError, match="has changed since its card was written"):
        load_predictor(source)


def rewrite(path, *, config=None, weights=None):
    """Write the `.keras` file again with its architecture or its weights changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if config is not None:
        members["config.json"] = json.dumps(config(json.loads(members["config.json"]))).encode()
    if weights is not None:
        members["model.weights.h5"] = weights(members["model.weights.h5"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def save_dense(path):
    keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1)]).save(path)
    return path


@pytest.mark.parametrize("nested", [False, True])
def test_code_in_a_lambda_layer_never_runs(tmp_path, nested):
    canary = tmp_path / "canary"

    def payload(images):
        from pathlib import Path

        Path(canary_path).touch()
        return images

    canary_path = str(canary)
    body = [layers.Lambda(payload), layers.Flatten(), layers.Dense(1)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *([keras.Sequential(body)] if nested else body)])
    model.save(tmp_path / "m.keras")
    canary.unlink(missing_ok=True)

    with pytest.raises(ModelError, match=r"holds the object keras\.layers\.Lambda"):
        resolve_model(tmp_path / "m.keras")
    with pytest.raises(ModelError, match=r"holds the object keras\.layers\.Lambda"):
        load_model(ModelSource(ModelCard("m"), path=tmp_path / "m.keras"))

    assert not canary.exists()


def test_a_saved_model_wrapped_in_a_layer_never_loads(tmp_path):
    module = tf.Module()
    module.f = tf.function(
        lambda images: images, input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32)]
    )
    tf.saved_model.save(module, tmp_path / "saved", signatures=module.f)
    wrapper = layers.TFSMLayer(str(tmp_path / "saved"), call_endpoint="serving_default")
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, wrapper(inputs)).save(tmp_path / "m.keras")

    with pytest.raises(ModelError, match=r"holds the object .*TFSMLayer"):
        load_model(ModelSource(ModelCard("m"), path=tmp_path / "m.keras"))


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "exec"), ("keras.utils", "get_file")]
)
def test_an_object_from_a_module_outside_keras_never_loads(tmp_path, module, name):
    canary = tmp_path / "canary"
    path = save_dense(tmp_path / "m.keras")
    evil = {
        "module": module,
        "class_name": name,
        "config": {"command": f"touch {canary}"},
        "registered_name": None,
    }
    rewrite(path, config=lambda config: config | {"config": {**config["config"], "layers": [evil]}})

    with pytest.raises(ModelError, match=rf"holds the object {module}\.{name}"):
        load_model(ModelSource(ModelCard("m"), path=path))

    assert not canary.exists()


def test_a_custom_layer_is_refused_even_where_it_is_registered(tmp_path):
    @keras.saving.register_keras_serializable(package="mine")
    class Doubled(layers.Layer):
        def call(self, images):
            return images * 2

    keras.Sequential([keras.Input((8, 8, 3)), Doubled(), layers.Flatten()]).save(tmp_path / "m.keras")

    with pytest.raises(ModelError, match=r"registered as mine>Doubled"):
        load_model(ModelSource(ModelCard("m"), path=tmp_path / "m.keras"))


@pytest.mark.parametrize("link", [h5py.ExternalLink("secret.h5", "/secret"), h5py.SoftLink("/layers/dense")])
def test_weights_that_point_into_another_file_are_refused(tmp_path, link):
    path = save_dense(tmp_path / "m.keras")
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["secret"] = np.ones((192, 1), np.float32)

    def linked(data):
        (tmp_path / "w.h5").write_bytes(data)
        with h5py.File(tmp_path / "w.h5", "a") as weights:
            variables = weights["layers/dense/vars"]
            del variables["0"]
            variables["0"] = link
        return (tmp_path / "w.h5").read_bytes()

    rewrite(path, weights=linked)

    with pytest.raises(ModelError, match="Keras cannot load"):
        load_model(ModelSource(ModelCard("m"), path=path))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"no weights"])
def test_damaged_weights_are_refused_in_one_line(tmp_path, damage):
    path = save_dense(tmp_path / "m.keras")
    rewrite(path, weights=damage)

    with pytest.raises(ModelError, match="Keras cannot load") as refused:
        load_model(ModelSource(ModelCard("m"), path=path))

    assert "\n" not in str(refused.value)


def test_the_number_of_threads_is_set_before_tensorflow_starts(other_process):
    assert other_process["threads"] == [1, 1]
