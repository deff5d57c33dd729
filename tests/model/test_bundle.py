from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
import zipfile

import pytest

from dfd_core.errors import ModelError
from dfd_core.model.backbones import BACKBONES, canonical_backbone, default_scale
from dfd_core.model.card import ModelCard, card_from_fields, load_card, write_card
from dfd_core.model.safety import sha256_of, unsafe_objects
from dfd_core.model.source import ModelSource, resolve_model, untrained_card


def keras_object(class_name, config=None, *, module="keras.layers", **more):
    return {
        "module": module,
        "class_name": class_name,
        "config": config or {},
        "registered_name": None,
        **more,
    }


def architecture(*layers, shape=(None, 96, 96, 3)):
    """What Keras writes into config.json for a Sequential model, as far as it is read without Keras."""
    first = keras_object(
        "InputLayer", {"batch_shape": None if shape is None else list(shape), "dtype": "float32"}
    )
    dense = keras_object(
        "Dense", {"units": 2, "kernel_initializer": keras_object("Zeros", module="keras.initializers")}
    )
    return keras_object("Sequential", {"name": "m", "layers": [first, *layers, dense]}, module="keras")


def write_model(path, config=None, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(architecture() if config is None else config))
        for name, data in {"model.weights.h5": b"weights", **members}.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_model(folder / "model.keras")
    (folder / "card.json").write_text('{"name": "mine"}')
    return folder


def test_importing_the_bundle_does_not_import_the_model_runtime():
    code = "import sys, dfd_core.model.source, dfd_core.model.preprocess; print({'tensorflow', 'keras', 'h5py'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


# ---- the card ----------------------------------------------------------------------------------------------------


def test_a_hand_written_card_takes_the_defaults(bundle):
    card = load_card(bundle)

    assert card == ModelCard("mine")
    assert (card.input_size, card.color, card.scale, card.margin) == (128, "rgb", "x/255", 0.0)
    assert (card.classes, card.threshold, card.sampling, card.trained) == (
        ("fake", "real"),
        0.5,
        "stride",
        True,
    )


def test_a_card_without_a_name_is_called_like_its_folder(bundle):
    (bundle / "card.json").write_text("{}")

    assert load_card(bundle).name == "mine"


def test_a_written_card_reads_back_the_same(tmp_path):
    card = ModelCard(
        "x",
        input_size=96,
        color="bgr",
        scale="x",
        mean=(1.0, 2.0, 3.0),
        std=(4.0, 5.0, 6.0),
        margin=0.2,
        classes=("real",),
        output="logit",
        training={"data": ["a", "é"]},
        metrics={"auc": 0.8},
        sha256="0" * 64,
        extra={"licence": "CC0"},
    )

    path = write_card(card, tmp_path)

    assert load_card(tmp_path) == card
    assert json.loads(path.read_text())["licence"] == "CC0"
    assert [entry.name for entry in tmp_path.iterdir()] == ["card.json"]


def test_a_card_travels_to_a_worker():
    source = ModelSource(untrained_card("vgg16"), backbone="vgg16")

    assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", 3),
        ("input_size", "128"),
        ("input_size", 128.0),
        ("input_size", True),
        ("input_size", 0),
        ("color", "grey"),
        ("color", ["rgb"]),
        ("scale", "x/256"),
        ("scale", None),
        ("mean", [0.1, 0.2]),
        ("mean", "imagenet"),
        ("std", [1, 0, 1]),
        ("margin", -0.1),
        ("margin", float("nan")),
        ("margin", "0.1"),
        ("classes", ["fake", "fake"]),
        ("classes", ["real", "deepfake"]),
        ("classes", []),
        ("classes", "fake"),
        ("classes", [["fake"], "real"]),
        ("output", "score"),
        ("threshold", 1.5),
        ("threshold", "half"),
        ("sampling", "every second"),
        ("sampling", "uniform:0"),
        ("sampling", "keyframes:9"),
        ("trained", "yes"),
        ("training", []),
        ("versions", "2.21"),
        ("sha256", "abc"),
    ],
)
def test_a_wrong_field_is_refused_by_name(field, value):
    with pytest.raises(ModelError, match=rf"`{field}` is unusable\. Expected .*\. Received: "):
        card_from_fields({"name": "m", field: value})


@pytest.mark.parametrize("text", ["{", "[]", '"name"', "\x00"])
def test_a_card_that_is_no_json_object_is_refused(bundle, text):
    (bundle / "card.json").write_text(text)

    with pytest.raises(ModelError, match=r"card\.json"):
        resolve_model(str(bundle))


def test_the_model_id_is_the_name_and_the_start_of_the_hash():
    assert ModelCard("m", sha256="0123456789abcdef" * 4).model_id == "m@0123456789ab"
    assert untrained_card("inception_resnet_v2").model_id == "untrained:inception_resnet_v2"


# ---- naming a model ------------------------------------------------------------------------------------------------


def test_a_bundle_folder_resolves_to_its_card_and_file(bundle):
    source = resolve_model(str(bundle))

    assert source.path == bundle / "model.keras"
    assert source.backbone is None
    assert source.card.sha256 == sha256_of(bundle / "model.keras")
    assert source.card.model_id.startswith("mine@")


def test_a_bare_keras_file_resolves_with_the_defaults_and_its_own_input_size(tmp_path):
    path = write_model(tmp_path / "downloaded.keras")

    card = resolve_model(path).card

    assert card == ModelCard("downloaded", input_size=96, sha256=sha256_of(path))


def test_a_relative_path_resolves_to_one_that_a_worker_elsewhere_can_open(bundle, monkeypatch):
    monkeypatch.chdir(bundle)

    assert resolve_model("model.keras").path == bundle / "model.keras"


def test_an_untrained_backbone_resolves_without_a_file():
    source = resolve_model("untrained:Inception_ResNet_V2")

    assert (source.path, source.backbone) == (None, "inception_resnet_v2")
    assert not source.card.trained
    assert source.card.sha256 is None


def test_a_source_is_a_file_or_a_backbone():
    with pytest.raises(ValueError, match="a path or a backbone"):
        ModelSource(ModelCard("m"))


@pytest.mark.parametrize("spec", ["nowhere", "nowhere/model.keras", "", "untrained", "saved_model.pb"])
def test_a_missing_model_is_one_line_that_says_what_to_pass(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"graph")

    with pytest.raises(
        ModelError, match=r"Pass a bundle folder, a \.keras file or untrained:BACKBONE"
    ) as refused:
        resolve_model(spec)

    assert "\n" not in str(refused.value)


def test_a_folder_without_a_card_is_refused_and_its_model_offered(bundle):
    (bundle / "card.json").unlink()

    with pytest.raises(ModelError, match=r"no card\.json.*for the defaults pass .*model\.keras"):
        resolve_model(bundle)


def test_a_folder_without_a_model_is_refused(bundle):
    (bundle / "model.keras").unlink()

    with pytest.raises(ModelError, match=r"There is no model\.keras"):
        resolve_model(bundle)


def test_an_unknown_backbone_is_refused_with_the_nearest_names():
    with pytest.raises(ModelError, match=r"mobilenet_v3_small.*Received: 'mobilnet_v3_smal'"):
        resolve_model("untrained:mobilnet_v3_smal")


@pytest.mark.parametrize(
    "spelling", ["efficientnet_v2_b0", "EfficientNetV2B0", "efficientnetv2_b0", "efficientnet-v2-b0"]
)
def test_a_backbones_spelling_is_forgiven(spelling):
    assert canonical_backbone(spelling) == "efficientnet_v2_b0"


def test_only_backbones_that_rescale_by_themselves_take_raw_pixels():
    assert {name for name in BACKBONES if default_scale(name) == "x"} == {
        f"efficientnet_b{i}" for i in range(8)
    }


# ---- the file ------------------------------------------------------------------------------------------------------


def test_a_model_that_changed_since_its_card_is_refused(bundle):
    write_card(resolve_model(bundle).card, bundle)
    write_model(bundle / "model.keras", **{"model.weights.h5": b"others"})

    with pytest.raises(ModelError, match=r"has changed since its card was written\. Expected sha256"):
        resolve_model(bundle)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04broken"])
def test_a_file_that_is_no_zip_is_refused(tmp_path, data):
    (tmp_path / "m.keras").write_bytes(data)

    with pytest.raises(ModelError, match=r"cannot be read as a \.keras file"):
        resolve_model(tmp_path / "m.keras")


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_file_whose_architecture_is_no_json_object_is_refused(tmp_path, text):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", text.encode("latin-1"))

    with pytest.raises(ModelError, match=r"cannot be read as a \.keras file"):
        resolve_model(tmp_path / "m.keras")


def test_a_zip_without_an_architecture_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("other.json", "{}")

    with pytest.raises(ModelError, match=r"cannot be read as a \.keras file"):
        resolve_model(tmp_path / "m.keras")


def test_an_architecture_nested_beyond_reason_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", "[" * 100_000 + "]" * 100_000)

    with pytest.raises(ModelError, match=r"cannot be read as a \.keras file"):
        resolve_model(tmp_path / "m.keras")


def test_a_part_that_would_expand_to_an_absurd_size_is_refused(tmp_path):
    path = write_model(tmp_path / "m.keras", **{"model.weights.h5": bytes(8 << 20)})

    with pytest.raises(ModelError, match=r"'model\.weights\.h5' would expand to an absurd size"):
        resolve_model(path)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (architecture(), 96),
        (architecture(shape=(None, None, None, 3)), 128),
        (architecture(shape=None), 128),
        (
            keras_object(
                "Sequential", {"layers": [keras_object("Dense")], "build_input_shape": [None, 64, 64, 3]}
            ),
            64,
        ),
        (keras_object("Sequential", {"layers": []}, build_config={"input_shape": [None, 64, 64, 3]}), 64),
        (keras_object("Sequential", {"layers": [architecture()]}, module="keras"), 96),
        (
            keras_object(
                "Functional", {"layers": [keras_object("InputLayer", {"batch_input_shape": [1, 32, 32, 3]})]}
            ),
            32,
        ),
    ],
    ids=["static", "dynamic", "absent", "built shape", "build config", "nested", "Keras 2"],
)
def test_the_input_size_is_read_from_the_architecture(tmp_path, config, size):
    assert resolve_model(write_model(tmp_path / "m.keras", config)).card.input_size == size


@pytest.mark.parametrize("shape", [(None, 96, 64, 3), (None, 96, 96, 1), (None, 3, 96, 96), (None, 100)])
def test_a_model_of_anything_but_square_rgb_images_is_refused(tmp_path, shape):
    with pytest.raises(ModelError, match=r"Expected \(None, size, size, 3\)\. Received: "):
        resolve_model(write_model(tmp_path / "m.keras", architecture(shape=shape)))


def test_a_card_that_contradicts_its_model_is_refused(bundle):
    (bundle / "card.json").write_text('{"input_size": 128}')

    with pytest.raises(ModelError, match=r"`input_size` is not the model's\. Expected 96\. Received: 128"):
        resolve_model(bundle)


LAMBDA = keras_object("Lambda", {"function": {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}}})


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (LAMBDA, "Lambda"),
        (
            keras_object("Sequential", {"layers": [keras_object("TimeDistributed", {"layer": LAMBDA})]}),
            "Lambda",
        ),
        (keras_object("TFSMLayer", {"filepath": "saved"}), "TFSMLayer"),
        (keras_object("TorchModuleWrapper", {"module": "AAAA"}), "TorchModuleWrapper"),
        (keras_object("StringLookup", {"vocabulary": "secrets.txt"}), "StringLookup"),
        (keras_object("system", module="os"), "os.system"),
        (keras_object("eval", module="builtins"), "builtins.eval"),
        (keras_object("Popen", module="subprocess"), "subprocess.Popen"),
        (keras_object("get_file", module="keras.utils"), "keras.utils.get_file"),
        (keras_object("enable_unsafe_deserialization", module="keras.config"), "enable_unsafe"),
        (keras_object("run_path", module="keras.src.utils.runpy"), "run_path"),
        (keras_object("deserialize", module="keras.layers"), "deserialize"),
        (keras_object("Dense.__init__", module="keras.layers"), "Dense.__init__"),
        (
            keras_object("Swish", module="my_package.layers", registered_name="mine>Swish"),
            "registered as mine>Swish",
        ),
        (keras_object("Dense", registered_name="mine>Dense"), "registered as mine>Dense"),
        (
            keras_object("Dense", {"activation": keras_object("function", "system", module="os")}),
            "os.function",
        ),
        (keras_object("function", "os.system", module="builtins"), "builtins.function"),
        (keras_object("__typespec__", module=None, spec_name="X"), "__typespec__"),
        (keras_object("Dense", module=None), "None.Dense"),
        (keras_object("Dense", module=["os"]), "Dense"),
        (keras_object(["Dense"]), "Dense"),
    ],
)
def test_an_object_that_is_no_plain_keras_layer_is_refused(tmp_path, layer, named):
    with pytest.raises(ModelError, match=r"Only plain Keras layers are loaded") as refused:
        resolve_model(write_model(tmp_path / "m.keras", architecture(layer)))

    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unsafe_object_is_found_wherever_it_hides():
    hidden = architecture(keras_object("Dense", {"kernel_initializer": {"a": [[{"b": LAMBDA}]]}}))

    assert any("Lambda" in found for found in unsafe_objects(hidden))


def test_how_a_model_was_compiled_does_not_matter(tmp_path):
    config = architecture() | {"compile_config": {"loss": keras_object("Mine", module="my_package.losses")}}

    assert resolve_model(write_model(tmp_path / "m.keras", config)).card.name == "m"


@pytest.mark.parametrize(
    "layer",
    [
        keras_object("Activation", {"activation": keras_object("function", "relu", module="builtins")}),
        keras_object("CustomScaleLayer", module="keras.src.applications.inception_resnet_v2"),
        keras_object("GetItem", module="keras.src.ops.numpy", registered_name="GetItem"),
        keras_object("Functional", module="keras.src.models.functional", registered_name="Functional"),
        keras_object(
            "Dense", {"dtype": keras_object("DTypePolicy", {"name": "mixed_bfloat16"}, module="keras")}
        ),
    ],
)
def test_what_plain_models_hold_is_accepted(layer):
    assert list(unsafe_objects(architecture(layer))) == []


def test_a_checked_card_can_be_changed_like_a_value():
    card = dataclasses.replace(ModelCard("m"), threshold=0.7)

    assert card.threshold == 0.7
