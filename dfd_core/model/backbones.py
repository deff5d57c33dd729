"""The networks a classifier can be built on: their names, their scales, and their bodies without a top."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

from dfd_core.errors import ModelError, as_model_error

# fmt: off
BACKBONES = (
    "convnext_base", "convnext_large", "convnext_small", "convnext_tiny", "convnext_xlarge", "densenet121",
    "densenet169", "densenet201", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
    "efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_b0",
    "efficientnet_v2_b1", "efficientnet_v2_b2", "efficientnet_v2_b3", "efficientnet_v2_l", "efficientnet_v2_m",
    "efficientnet_v2_s", "inception_resnet_v2", "inception_v3", "mobilenet", "mobilenet_v2", "mobilenet_v3_large",
    "mobilenet_v3_small", "nasnet_large", "nasnet_mobile", "resnet101", "resnet101_v2", "resnet152", "resnet152_v2",
    "resnet50", "resnet50_v2", "vgg16", "vgg19", "xception",
)
# fmt: on
"""The constructors of `keras.applications`, in snake_case."""

OWN_BACKBONES = ("efficientnet_lite0", "small_resnet")
"""This project's own networks. They have no ImageNet weights."""

_BACKBONES_WITH_RESCALING = re.compile(r"efficientnet_b\d")
DOWNLOAD_TIMEOUT_S = 10.0


def canonical_backbone(name: str) -> str:
    """Return `name` as `BACKBONES` or `OWN_BACKBONES` writes it; case and underscores do not matter.

    Raises:
        ModelError: There is no such backbone; the message lists the nearest names.

    Example:
        >>> canonical_backbone("ResNet50V2")
        'resnet50_v2'
    """
    by_key = {backbone.replace("_", ""): backbone for backbone in (*BACKBONES, *OWN_BACKBONES)}
    key = re.sub("[_-]", "", name.strip().lower())
    if key not in by_key:
        nearest = [by_key[match] for match in difflib.get_close_matches(key, by_key, n=4, cutoff=0.4)]
        hint = ", ".join(nearest or BACKBONES)
        raise ModelError(
            f"Unknown backbone. Expected {', '.join(OWN_BACKBONES)} or a keras.applications model such as {hint}. "
            f"Received: {name!r}"
        )
    return by_key[key]


def default_scale(backbone: str) -> str:
    """Return the scale that a new bundle of `backbone` gets.

    >>> default_scale("inception_resnet_v2"), default_scale("efficientnet_b0"), default_scale("efficientnet_lite0")
    ('x/255', 'x', 'x/127.5-1')
    """
    if canonical_backbone(backbone) == "efficientnet_lite0":
        return "x/127.5-1"
    return "x" if _BACKBONES_WITH_RESCALING.fullmatch(canonical_backbone(backbone)) else "x/255"


def build_backbone(name: str, input_size: int, weights: str | os.PathLike[str] | None) -> Any:
    """Return the body of a classifier: float32 (n, input_size, input_size, 3) to feature maps (n, rows, columns, channels).

    Args:
        name: As `canonical_backbone` returns it.
        input_size: Side of the input, pixels.
        weights: `imagenet`, an `.h5` file of the body's weights, or None for random ones.

    Raises:
        ModelError: The backbone does not take this size, or the weights cannot be had or do not fit.
    """
    if name in OWN_BACKBONES:
        return _build_own(name, input_size, weights)
    import keras

    constructors = {
        key.lower(): value for key, value in vars(keras.applications).items() if inspect.isfunction(value)
    }
    constructor = constructors[name.replace("_", "")]
    options: dict[str, Any] = {"include_top": False, "input_shape": (input_size, input_size, 3)}
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        options["include_preprocessing"] = False
    problem = f"keras.applications cannot build {name} for {input_size} pixels"
    if weights == "imagenet":
        problem = f"The ImageNet weights of {name} cannot be had; pass `--weights none` or `--weights PATH`"
    elif weights is not None:
        problem = f"The weights in {weights} do not fit {name}"
    with as_model_error(problem), _socket_timeout(DOWNLOAD_TIMEOUT_S):
        return constructor(weights=None if weights is None else os.fspath(weights), **options)


def _build_own(name: str, input_size: int, weights: str | os.PathLike[str] | None) -> Any:
    if weights == "imagenet":
        raise ModelError(
            f"{name} has no ImageNet weights; pass `--weights none` or `--weights PATH` (`default` for the weights of "
            "the detector that ships, an efficientnet_lite0)"
        )
    constructor = getattr(importlib.import_module(f"dfd_core.model.{name}"), name)
    with as_model_error(f"{name} cannot be built for {input_size} pixels"):
        body = constructor(input_size=input_size)
    if weights is not None:
        with as_model_error(f"The weights in {weights} do not fit {name}"):
            body.load_weights(weights)
    return body


@contextlib.contextmanager
def _socket_timeout(timeout_s: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_s)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
