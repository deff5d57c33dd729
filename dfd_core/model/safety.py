"""Checks that a `.keras` file holds plain Keras layers only. It reads JSON and zip directories.

The driver and the CPU workers use this, so it imports no model runtime.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dfd_core.errors import ModelError
from dfd_core.model.card import WHAT_TO_PASS
from dfd_core.model.card_values import is_int


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_model_file(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """Return the architecture in a `.keras` file, after checking that loading it cannot run code.

    Args:
        path: A `.keras` file (Keras 3).
        sha256: The expected hash, if known.

    Raises:
        ModelError: The file cannot be read, is no Keras model, has another hash, would expand too far, or holds
            something else than plain Keras layers.
    """
    if not path.is_file():
        raise ModelError(f"There is no {path.name} in {path.parent}. {WHAT_TO_PASS}")
    if sha256 is not None and (received := sha256_of(path)) != sha256:
        raise ModelError(
            f"{path} has changed since its card was written. Expected sha256 {sha256}. Received: {received}"
        )
    config = _read_architecture(path)
    for problem in unsafe_objects({**config, "compile_config": None}):
        raise ModelError(
            f"{path} holds {problem}. Only plain Keras layers are loaded, because others can run code"
        )
    return config


def static_input_size(config: Mapping[str, Any]) -> int | None:
    """Return the side in pixels of the images that an architecture takes, or None if it takes any.

    Raises:
        ModelError: It does not take square three-channel images with the channels last.
    """
    shape = _input_shape(config)
    if shape is None:
        return None
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
        raise ModelError(
            f"The model's input is unusable. Expected (None, size, size, 3). Received: {tuple(shape)}"
        )
    return shape[1]


# Layers that run code from the file, load other files, or take other inputs than images.
_REFUSED_LAYERS = frozenset(
    "FlaxLayer HashedCrossing Hashing IntegerLookup JaxLayer Lambda StringLookup TFSMLayer TextVectorization "
    "TorchModuleWrapper".split()
)
_ALLOWED_BY_MODULE: Mapping[str, frozenset[str] | None] = {
    "keras": frozenset({"Sequential", "Functional", "Model", "DTypePolicy", "FloatDTypePolicy"}),
    "keras.models": frozenset({"Sequential", "Functional", "Model"}),
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.src.models.sequential": frozenset({"Sequential"}),
    "keras.src.applications.inception_resnet_v2": frozenset({"CustomScaleLayer"}),
    "keras.src.applications.convnext": frozenset({"LayerScale", "StochasticDepth"}),
    **dict.fromkeys(
        [
            *("keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints"),
            *("keras.dtype_policies", "keras.optimizers", "keras.losses", "keras.metrics"),
            *(f"keras.src.ops.{name}" for name in ("core", "image", "linalg", "math", "nn", "numpy")),
        ]
    ),
}
_FUNCTION_MODULES = frozenset({"builtins", "keras.activations"})
_VALUE_CLASSES = frozenset(
    {"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__", "__bytes__"}
)
_CLASS_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")
_MAX_CONFIG_BYTES = 64 << 20
_MAX_EXPANSION = 100  # Keras stores its members uncompressed; real weights hardly compress
_MAX_TOTAL_EXPANSION = 10
_ROOM_BYTES = 128 << 20  # a file without much content may expand to this


def unsafe_objects(config: object) -> Iterator[str]:
    """Yield a description of each serialised object, at any depth, that is not a plain part of Keras.

    >>> list(unsafe_objects({"layers": [{"module": "keras.layers", "class_name": "Lambda", "config": {}}]}))
    ['the object keras.layers.Lambda']
    """
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            if "class_name" in value and not _is_plain_object(value):
                yield f"the object {_described(value)}"
            pending.extend(value.values())
        elif isinstance(value, (list, tuple)):
            pending.extend(value)


def _is_plain_object(value: Mapping[str, Any]) -> bool:
    module, class_name = value.get("module"), value["class_name"]
    if not isinstance(class_name, str) or not isinstance(module, str | None):
        return False
    if module is None:
        return class_name in _VALUE_CLASSES
    if class_name == "function":
        name = value.get("config")
        return module in _FUNCTION_MODULES and isinstance(name, str) and name.isidentifier()
    if value.get("registered_name") not in (None, class_name) or not _CLASS_NAME.fullmatch(class_name):
        return False
    if module not in _ALLOWED_BY_MODULE or class_name in _REFUSED_LAYERS:
        return False
    names = _ALLOWED_BY_MODULE[module]
    return names is None or class_name in names


def _described(value: Mapping[str, Any]) -> str:
    registered = value.get("registered_name")
    name = f"{value.get('module')}.{value['class_name']}"
    text = name if registered in (None, value["class_name"]) else f"{name} (registered as {registered})"
    return text if len(text) <= 200 else text[:200] + "…"


def _read_architecture(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_expansion(path, archive.infolist())
            for member in archive.infolist():
                limit = _MAX_CONFIG_BYTES if member.filename == "config.json" else math.inf
                if member.file_size > min(limit, (1 << 20) + _MAX_EXPANSION * member.compress_size):
                    raise ModelError(
                        f"{path} is refused: its part {member.filename!r} would expand to an absurd size"
                    )
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{path} cannot be read as a .keras file of Keras 3: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(
            f"{path} cannot be read as a .keras file of Keras 3: its config.json holds no object"
        )
    return config


def _refuse_expansion(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse files of the model's own, which Keras would write to disk, and members that are too large together."""
    for member in members:
        if member.filename.startswith("assets/"):
            raise ModelError(f"{path} is refused: it holds a file of its own, {member.filename[:200]!r}")
    expanded = sum(member.file_size for member in members)
    if expanded > _ROOM_BYTES + _MAX_TOTAL_EXPANSION * path.stat().st_size:
        raise ModelError(f"{path} is refused: its parts would expand to {expanded:,} bytes")


def _input_shape(config: Mapping[str, Any]) -> list[int | None] | None:
    """Return the input shape, batch first, of a serialised Functional or Sequential model; None if it has none."""
    inner = config.get("config")
    shapes: list[Any] = []
    if isinstance(inner, Mapping):
        layers = inner.get("layers")
        first = layers[0] if isinstance(layers, list) and layers and isinstance(layers[0], Mapping) else {}
        first_config = first.get("config")
        if isinstance(first_config, Mapping):
            shapes.append(first_config.get("batch_shape", first_config.get("batch_input_shape")))
        if first.get("class_name") in ("Functional", "Sequential"):
            shapes.append(_input_shape(first))
        shapes.append(inner.get("build_input_shape"))
    build_config = config.get("build_config")
    if isinstance(build_config, Mapping):
        shapes.append(build_config.get("input_shape"))
    for shape in shapes:
        if isinstance(shape, list) and all(size is None or is_int(size) for size in shape):
            return shape
    return None
