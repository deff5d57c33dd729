"""Classifiers: build, save and load them.

Loading never runs code from a model file: `safety.check_model_file` refuses everything but plain Keras layers before
Keras sees the file. Keras is imported only where a model is built or read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import random
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dfd_core.errors import ModelError, as_model_error
from dfd_core.model.backbones import build_backbone, canonical_backbone
from dfd_core.model.card import MODEL_FILENAME, ModelCard, write_card
from dfd_core.model.limits import refuse_missing_weights
from dfd_core.model.safety import check_model_file, sha256_of
from dfd_core.model.source import ModelSource, bundle_path


def build_classifier(
    backbone: str = "inception_resnet_v2",
    *,
    input_size: int = 128,
    weights: str | os.PathLike[str] | None = "imagenet",
    seed: int = 0,
) -> Any:
    """Return the seed report's classifier: a backbone, global average pooling and a softmax over fake and real.

    Its input is what `preprocess.to_model_input` makes of crops with the scale `backbones.default_scale(backbone)`.

    Args:
        backbone: A name of `backbones.BACKBONES` or `backbones.OWN_BACKBONES`.
        input_size: Side of the input, in pixels.
        weights: `imagenet` (downloaded by Keras, or found in its cache), None for random ones, `default` (the detector
            that ships, an `efficientnet_lite0`), a bundle or `.keras` file of this very classifier, or an `.h5` file
            of the backbone without its top.
        seed: Decides every random weight: the same seed gives the same weights in every process.

    Returns:
        A `keras.Model`: float32 (n, input_size, input_size, 3) to float32 (n, 2), probabilities of fake and real.

    Raises:
        ModelError: The backbone is unknown, does not take this size, or the weights cannot be had or do not fit.
    """
    import keras

    name = canonical_backbone(backbone)
    file = None if weights is None or weights == "imagenet" else _weights_file(weights)
    classifier_file = file if file is not None and file.suffix == ".keras" else None
    with _seeded(seed):
        body = build_backbone(name, input_size, None if classifier_file else file or weights)
        head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, activation="softmax")]
        model = keras.Sequential([keras.Input((input_size, input_size, 3)), body, *head])
    if classifier_file:
        with as_model_error(f"The weights in {classifier_file} do not fit {name}"):
            model.set_weights(keras.saving.load_model(classifier_file, compile=False).get_weights())
    return model


def save_bundle(model: Any, card: ModelCard, folder: str | os.PathLike[str]) -> ModelCard:
    """Write `model.keras` and `card.json` into `folder` and return the card with its sha256 and versions.

    Each file is written aside and renamed. Between the two renames the sha256 of the model is not the card's, and
    `source.resolve_model` refuses the bundle. A compiled model is saved with its optimizer's state.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as beside:
        written = Path(beside) / MODEL_FILENAME
        model.save(written)
        versions = {
            "keras": version("keras"),
            "tensorflow": version("tensorflow"),
            "python": platform.python_version(),
        }
        complete = dataclasses.replace(
            card, sha256=sha256_of(written), versions={**versions, **card.versions}
        )
        os.replace(written, target / MODEL_FILENAME)
    write_card(complete, target)
    return complete


def load_model(source: ModelSource) -> Any:
    """Return the `keras.Model` of `source`, not compiled.

    Raises:
        ModelError: The file changed since it was resolved, could run code, or is nothing that Keras can load.
    """
    if source.backbone is not None:
        return build_classifier(source.backbone, input_size=source.card.input_size, weights=None)
    import keras

    assert source.path is not None
    refuse_missing_weights(check_model_file(source.path, source.card.sha256), source.path)
    with as_model_error(f"Keras cannot load {source.path}"):
        return keras.saving.load_model(source.path, compile=False, safe_mode=True)


def _weights_file(weights: str | os.PathLike[str]) -> Path:
    path = bundle_path(weights)
    path = path / MODEL_FILENAME if path.is_dir() else path
    if not path.is_file() or path.suffix not in (".keras", ".h5"):
        raise ModelError(
            f"Unusable weights. Expected imagenet, none, or a bundle (`default` is the one that ships), .keras or .h5 file. Received: {weights}"
        )
    if path.suffix == ".keras":
        refuse_missing_weights(check_model_file(path), path)
    return path


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Keras draws the seed of each initialiser from Python's global generator: fix it, then put it back."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
