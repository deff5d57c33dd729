"""The model bundle as seen without the model runtime: its card, its files, and whether they may be loaded.

A bundle is a folder with `model.keras` and `card.json`. Everything here reads JSON and zip directories only, so
that the driver and the CPU workers never import TensorFlow.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfd_core.config import SAMPLINGS, Sampling
from dfd_core.errors import ModelError, RequestError
from dfd_core.model.calibration import Calibration

MODEL_FILENAME = "model.keras"
CARD_FILENAME = "card.json"
UNTRAINED_PREFIX = "untrained:"

_MEANING = ("color", "scale", "mean", "std", "classes", "output")
COLORS = ("rgb", "bgr")
SCALES = ("x/255", "x/127.5-1", "x")
OUTPUTS = ("probability", "logit")

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

OWN_BACKBONES = ("small_resnet",)
"""This project's own networks; they have no ImageNet weights."""

_BACKBONES_WITH_RESCALING = re.compile(r"efficientnet_b\d")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WHAT_TO_PASS = f"Pass a bundle folder, a .keras file or {UNTRAINED_PREFIX}BACKBONE"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a bundle's `card.json` says: how crops become the model's input, and what its output means.

    Attributes:
        name: The bundle's name.
        input_size: Side of the square input, in pixels.
        color: Channel order of the model's input, `rgb` or `bgr`.
        scale: How a pixel value x in [0, 255] becomes an input: `x/255`, `x/127.5-1` or `x`.
        mean: Subtracted from each channel after `scale`, in the order of `color`; None for zeros.
        std: Divides each channel after `mean`, in the order of `color`; None for ones.
        margin: Widening of a face's box on each side, as a fraction of that side's length.
        classes: One name for each output, or both names for a single sigmoid output, whose value is then the
            probability of the second (Keras' binary convention). One name: the single output is its probability.
        output: `probability`, or `logit` when the model ends without its softmax or sigmoid.
        threshold: The verdict is fake where p_fake is at least this; in [0, 1].
        calibration: What `calibration.Calibration.from_card` reads; None where the model's own numbers are p_fake.
        sampling: The frames that the model was trained on.
        trained: False where the weights are random.
        training: What the model was trained on.
        metrics: What was measured after training.
        versions: The libraries that trained it.
        sha256: Of `model.keras`, 64 hexadecimal digits; None where there is no file.
        extra: Fields of `card.json` that are none of the above, kept as they are.
    """

    name: str
    input_size: int = 128
    color: str = "rgb"
    scale: str = "x/255"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    margin: float = 0.0
    classes: tuple[str, ...] = ("fake", "real")
    output: str = "probability"
    threshold: float = 0.5
    calibration: Mapping[str, Any] | None = None
    sampling: str = "stride"
    trained: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("mean", "std", "classes"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        self._check("name", isinstance(self.name, str) and self.name.strip() != "", "a non-empty string")
        size = self.input_size
        self._check("input_size", _is_int(size) and 8 <= size <= 2048, "pixels, an integer from 8 to 2048")
        self._check("color", self.color in COLORS, f"one of {', '.join(COLORS)}")
        self._check("scale", self.scale in SCALES, f"one of {', '.join(SCALES)}")
        self._check("mean", self.mean is None or _is_triple(self.mean), "three numbers")
        self._check(
            "std", self.std is None or (_is_triple(self.std) and min(self.std) > 0), "three positive numbers"
        )
        self._check("margin", _is_number(self.margin) and 0 <= self.margin <= 10, "a number from 0 to 10")
        self._check(
            "classes", _are_classes(self.classes), '["fake", "real"], ["real", "fake"], ["fake"] or ["real"]'
        )
        self._check("output", self.output in OUTPUTS, f"one of {', '.join(OUTPUTS)}")
        self._check(
            "threshold", _is_number(self.threshold) and 0 <= self.threshold <= 1, "a number from 0 to 1"
        )
        self._check(
            "calibration",
            self.calibration is None or _is_calibration(self.calibration),
            'null, {"kind": "temperature", "temperature": T > 0}, or "isotonic" with p_raw and p_fake',
        )
        self._check("sampling", _is_sampling(self.sampling), SAMPLINGS)
        self._check("trained", isinstance(self.trained, bool), "true or false")
        for name in ("training", "metrics", "versions", "extra"):
            self._check(name, isinstance(getattr(self, name), Mapping), "an object")
        sha_ok = self.sha256 is None or (
            isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256) is not None
        )
        self._check("sha256", sha_ok, "64 lower-case hexadecimal digits or null")

    @property
    def meaning(self) -> dict[str, Any]:
        """What of the card, beside the model's file, decides what a score is, as JSON: only what is not the default.

        >>> ModelCard("m", color="bgr", std=(1.0, 2.0, 3.0)).meaning
        {'color': 'bgr', 'std': [1.0, 2.0, 3.0]}
        """
        found = {}
        for fact in dataclasses.fields(self):
            value = getattr(self, fact.name)
            if fact.name in _MEANING and value != fact.default:
                found[fact.name] = list(value) if isinstance(value, tuple) else value
        return found

    def _check(self, name: str, ok: bool, expected: str) -> None:
        if not ok:
            raise ModelError(
                f"card.json: `{name}` is unusable. Expected {expected}. Received: {getattr(self, name)!r}"
            )

    @property
    def model_id(self) -> str:
        """What identifies the model in every output row: `name@` and the first 12 digits of its sha256."""
        return self.name if self.sha256 is None else f"{self.name}@{self.sha256[:12]}"

    def uncalibrated(self) -> ModelCard:
        """Return the card without its calibration, and with the threshold that says the same of raw scores."""
        if self.calibration is None:
            return self
        threshold = Calibration.from_card(self.calibration).invert(self.threshold)
        return dataclasses.replace(self, calibration=None, threshold=threshold)

    def to_json(self) -> str:
        """Return the text of `card.json`; an unset `mean`, `std` or `calibration` is left out."""
        values = dataclasses.asdict(self)
        extra = values.pop("extra")
        kept = {
            name: value
            for name, value in values.items()
            if name not in ("mean", "std", "calibration") or value is not None
        }
        return json.dumps({**kept, **extra}, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from: a checked `.keras` file, or a backbone with random weights.

    Attributes:
        card: How to feed the model and read its output; `card.sha256` is set where there is a file.
        path: The local `.keras` file, or None.
        backbone: A name of `BACKBONES`, or None.
    """

    card: ModelCard
    path: Path | None = None
    backbone: str | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.backbone is None):
            raise ValueError(f"Expected a path or a backbone. Received: {self.path!r} and {self.backbone!r}")


def resolve_model(spec: str | os.PathLike[str], *, raw: bool = False) -> ModelSource:
    """Return the model that `--model` names, its file checked, without importing the model runtime.

    Args:
        spec: A local bundle folder, a local `.keras` file, or `untrained:BACKBONE`.
        raw: Leave the card's calibration out.

    Raises:
        ModelError: Nothing usable is there, or the file is not what its card says, or it could run code.

    Example:
        >>> resolve_model("untrained:MobileNetV3Small").card.model_id
        'untrained:mobilenet_v3_small'
    """
    text = os.fspath(spec)
    if text.startswith(UNTRAINED_PREFIX):
        backbone = canonical_backbone(text.removeprefix(UNTRAINED_PREFIX))
        return ModelSource(untrained_card(backbone), backbone=backbone)
    path = Path(text).absolute()  # workers run in other folders
    if path.is_dir():
        fields = _read_card(path)
        source = _checked_source(path / MODEL_FILENAME, {"name": path.resolve().name, **fields})
        return dataclasses.replace(source, card=source.card.uncalibrated()) if raw else source
    if path.is_file() and path.suffix != ".keras":
        raise ModelError(f"{text} is no Keras model. {_WHAT_TO_PASS}")
    if not path.is_file():
        raise ModelError(f"There is no model at {text!r}. {_WHAT_TO_PASS}")
    return _checked_source(path, {"name": path.stem})


def load_card(folder: str | os.PathLike[str]) -> ModelCard:
    """Return the card of the bundle at `folder`, without reading its model.

    Raises:
        ModelError: `card.json` is missing, is not JSON, or has an unusable field.
    """
    path = Path(folder)
    return card_from_fields({"name": path.resolve().name, **_read_card(path)})


def card_from_fields(fields: Mapping[str, Any]) -> ModelCard:
    """Return the card of decoded JSON; fields that a card does not know go into `extra`.

    Raises:
        ModelError: A field has the wrong type or value.
    """
    known = {entry.name for entry in dataclasses.fields(ModelCard)} - {"extra"}
    extra = {name: value for name, value in fields.items() if name not in known}
    return ModelCard(**{name: value for name, value in fields.items() if name in known}, extra=extra)


def write_card(card: ModelCard, folder: str | os.PathLike[str]) -> Path:
    """Write `card.json` into an existing folder, replacing one that is there, and return its path."""
    path = Path(folder) / CARD_FILENAME
    with tempfile.NamedTemporaryFile(
        "w", dir=folder, prefix=".card-", delete=False, encoding="utf-8"
    ) as file:
        file.write(card.to_json())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
    return path


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

    >>> default_scale("inception_resnet_v2"), default_scale("efficientnet_b0")
    ('x/255', 'x')
    """
    return "x" if _BACKBONES_WITH_RESCALING.fullmatch(canonical_backbone(backbone)) else "x/255"


def untrained_card(backbone: str, input_size: int = 128) -> ModelCard:
    """Return the card of `backbone` with random weights."""
    name = canonical_backbone(backbone)
    return ModelCard(UNTRAINED_PREFIX + name, input_size=input_size, scale=default_scale(name), trained=False)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_model_file(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """Return the architecture in a `.keras` file, after checking that loading it cannot run code.

    Args:
        path: A `.keras` file (Keras 3).
        sha256: What the file must hash to, if known.

    Raises:
        ModelError: The file is unreadable or no Keras model, its hash differs, or it holds anything but plain
            Keras layers.
    """
    if not path.is_file():
        raise ModelError(f"There is no {path.name} in {path.parent}. {_WHAT_TO_PASS}")
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


# Layers that run code of the file's choosing, load other files, or take something other than images.
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


def unsafe_objects(config: object) -> Iterator[str]:
    """Yield a description of each serialised object, at any depth, that is no plain part of Keras.

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


def _input_shape(config: Mapping[str, Any]) -> list[int | None] | None:
    """Return the shape, batch first, of a serialised Functional or Sequential model's input, if it says one."""
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
        if isinstance(shape, list) and all(size is None or _is_int(size) for size in shape):
            return shape
    return None


def _checked_source(path: Path, fields: Mapping[str, Any]) -> ModelSource:
    card = card_from_fields(fields)
    size = static_input_size(check_model_file(path, card.sha256))
    if size is not None and "input_size" in fields and card.input_size != size:
        raise ModelError(
            f"card.json: `input_size` is not the model's. Expected {size}. Received: {card.input_size}"
        )
    sha256 = card.sha256 or sha256_of(path)
    return ModelSource(
        dataclasses.replace(card, sha256=sha256, input_size=size or card.input_size), path=path
    )


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD_FILENAME
    if not path.is_file():
        also = (
            f"; for the defaults pass {folder / MODEL_FILENAME}"
            if (folder / MODEL_FILENAME).is_file()
            else ""
        )
        raise ModelError(f"{folder} is no model bundle: it has no {CARD_FILENAME}. {_WHAT_TO_PASS}{also}")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ModelError(f"{path}: Expected an object. Received: {type(fields).__name__}")
    return fields


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_triple(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(_is_number(entry) for entry in value)


def _is_calibration(value: object) -> bool:
    try:
        return isinstance(value, Mapping) and bool(Calibration.from_card(value))
    except (ValueError, TypeError):
        return False


def _is_sampling(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(Sampling.parse(value))
    except RequestError:
        return False


def _are_classes(value: object) -> bool:
    return value in [("fake", "real"), ("real", "fake"), ("fake",), ("real",)]
