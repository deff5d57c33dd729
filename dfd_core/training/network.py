"""The model to train: a backbone with a softmax head, its frozen layers and its precision."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from typing import Any

import keras

from dfd_core.errors import ModelError
from dfd_core.model.build import build_classifier
from dfd_core.model.fetch import local_model
from dfd_core.training.settings import TrainingSettings

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def build_network(settings: TrainingSettings) -> Any:
    """Return the classifier of `settings`, with its frozen layers.

    Raises:
        ModelError: The backbone does not take this size or these weights, or has no such layer.
    """
    model = build_classifier(
        settings.backbone,
        input_size=settings.input_size,
        weights=None if settings.weights == "none" else local_model(settings.weights),
        seed=settings.seed,
    )
    model.layers[-1].dtype_policy = "float32"  # a softmax in half precision has no small probabilities
    body = model.layers[0]
    if settings.freeze_until is not None:
        _freeze(body, settings.freeze_until)
    if settings.batch_norm_momentum is not None:
        for layer in body._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = settings.batch_norm_momentum
    return model


def _freeze(body: Any, last: str) -> None:
    names = [layer.name for layer in body.layers]
    if last not in names:
        near = ", ".join(difflib.get_close_matches(last, names, n=5, cutoff=0.3) or names[-5:])
        raise ModelError(f"The backbone has no layer {last!r} to freeze until. Some that it has: {near}")
    for layer in body.layers[: names.index(last) + 1]:
        layer.trainable = False


@contextlib.contextmanager
def dtype_policy(precision: str) -> Iterator[None]:
    """Let layers that are made in the block compute in `precision`."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(_POLICIES[precision])
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)
