"""Models as bombs: small files that ask for gigabytes end in one line, and soon."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import zipfile

import keras
import pytest

from dfd_core.errors import ModelError
from dfd_core.model.build import load_model
from dfd_core.model.card import ModelCard, load_card
from dfd_core.model.limits import limited_memory
from dfd_core.model.predictor import load_predictor
from dfd_core.model.source import resolve_model

SIDE_PX = 32


def saved(path, *layers):
    keras.Sequential([keras.Input((SIDE_PX, SIDE_PX, 3)), *layers]).save(path)
    return path


def rewritten(path, change):
    """Change the config of a saved model and leave its weights."""
    with zipfile.ZipFile(path) as archive:
        parts = {member.filename: archive.read(member) for member in archive.infolist()}
    config = json.loads(parts["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**parts, "config.json": json.dumps(config).encode()}.items():
            archive.writestr(name, content)
    return path


def refused(path, complaint):
    """Load as scoring does; at most a gigabyte may be taken on the way."""
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=complaint) as raised:
        load_predictor(resolve_model(path), precision="float32")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 1_000_000
    assert len(str(raised.value).splitlines()) == 1


def test_weights_that_the_file_does_not_hold_are_never_made(tmp_path):
    path = saved(
        tmp_path / "m.keras",
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(5),
        keras.layers.Dense(2, "softmax"),
    )

    def grow(config):
        first, last = (layer for layer in config["config"]["layers"] if layer["class_name"] == "Dense")
        first["config"]["units"] = 10**9
        last["build_config"] = {"input_shape": [None, 10**9]}

    refused(
        rewritten(path, grow), r"its layers have \d\d,\d{3},\d{3},\d{3} bytes of weights, and the file holds"
    )
    again = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])  # makes no weights of the bomb
    assert again.count_params() == 10


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.RepeatVector(10**8),
            keras.layers.GlobalAveragePooling1D(),
        ],
        lambda: [keras.layers.UpSampling2D(2000), keras.layers.GlobalAveragePooling2D()],
        lambda: [keras.layers.ZeroPadding2D(20_000), keras.layers.GlobalAveragePooling2D()],
    ],
    ids=["repeat", "upsampling", "padding"],
)
def test_outputs_of_absurd_size_are_refused_before_anything_runs(tmp_path, layers):
    path = saved(tmp_path / "m.keras", *layers(), keras.layers.Dense(2, "softmax"))
    refused(path, "a layer makes [0-9,]+ numbers of one image")


def test_files_of_the_models_own_are_refused(tmp_path):
    path = saved(
        tmp_path / "m.keras", keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, "softmax")
    )
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for number in range(400):
            archive.writestr(f"assets/{number}", bytes(1 << 20))
    refused(path, r"it holds a file of its own, 'assets/0'")


def test_many_parts_that_expand_together_are_refused(tmp_path):
    path = saved(
        tmp_path / "m.keras", keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, "softmax")
    )
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for number in range(200):
            archive.writestr(f"part{number}", bytes(1 << 20))
    refused(path, "its parts would expand to 20[0-9],")


def test_an_honest_model_is_loaded_and_its_weights_are_counted_right(tmp_path):
    layers = [
        keras.layers.Conv2D(8, 3),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2, "softmax"),
    ]
    path = saved(tmp_path / "m.keras", *layers)
    assert load_model(resolve_model(path)).count_params() == 8 * 27 + 8 + 4 * 8 + 8 * 2 + 2


def test_memory_is_limited_in_the_block_and_not_after_it():
    code = """
import numpy as np
from dfd_core.model.limits import limited_memory
with limited_memory(0):
    np.ones(100 << 20, np.uint8)
    try:
        np.ones(6 << 30, np.uint8)
        print("was given")
    except MemoryError:
        print("was refused")
np.empty(6 << 30, np.uint8)
print("and then given")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["was refused", "and then given"]
    soft = resource.getrlimit(resource.RLIMIT_AS)
    with limited_memory(1000):
        assert resource.getrlimit(resource.RLIMIT_AS) != soft
    assert resource.getrlimit(resource.RLIMIT_AS) == soft


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"name": "\\ud800"}', "holds text that is not Unicode"),
        ('{"name": "m", "training": {"by": "\\ud800"}}', "holds text that is not Unicode"),
        ('{"name": "a\\u0007b"}', "`name` is unusable"),
        ('{"name": "' + "x" * 5_000_000 + '"}', "`name` is unusable"),
        ('{"name": "m", "threshold": ' + "9" * 400 + "}", "`threshold` is unusable"),
        ('{"name": "m", "margin": -' + "9" * 400 + "}", "`margin` is unusable"),
        ('{"name": "m", "std": [1, 1, ' + "9" * 400 + "]}", "`std` is unusable"),
        (
            '{"name": "m", "calibration": {"kind": "temperature", "temperature": ' + "9" * 400 + "}}",
            "`calibration` is unusable",
        ),
        ('{"name": "m", "limits": {"min_side_px": ' + "9" * 400 + "}}", "`limits` is unusable"),
        (
            '{"name": "m", "threshold_low": 0.1, "threshold_high": ' + "9" * 400 + "}",
            "`threshold_low` is unusable",
        ),
        ('{"name": "m", "threshold": ' + "9" * 5000 + "}", "is not readable JSON"),
        ('{"name": "m", "extra": ' + "[" * 200 + "]" * 200 + "}", "nested deeper than 50 levels"),
        ("[" * 200_000 + "]" * 200_000, "is not readable JSON"),
        ('{"name": "m", "note": "' + "x" * (17 << 20) + '"}', "is too large"),
    ],
    ids=lambda value: value[:40],
)
def test_a_card_that_is_a_bomb_ends_in_one_short_line(tmp_path, text, complaint):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(ModelError, match=complaint) as raised:
        load_card(tmp_path)
    assert len(str(raised.value)) < 500
    assert str(raised.value).isprintable()


def test_a_name_of_200_characters_in_any_script_is_a_name():
    assert ModelCard("模" * 200).name == "模" * 200
