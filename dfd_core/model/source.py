"""The model that `--model` names, checked but not loaded. Needs no model runtime."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfd_core.errors import ModelError
from dfd_core.model.backbones import canonical_backbone, default_scale
from dfd_core.model.card import (
    CARD_FILENAME,
    MODEL_FILENAME,
    WHAT_TO_PASS,
    ModelCard,
    card_from_fields,
    load_card,
    read_fields,
)
from dfd_core.model.safety import check_model_file, sha256_of, static_input_size

UNTRAINED_PREFIX = "untrained:"
DEFAULT_MODEL = "default"
"""What `--model` and `--weights` call the detector that ships."""

DEFAULT_BUNDLE = Path(__file__).parent / "detectors" / "default"


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
        spec: `default`, a local bundle folder, a local `.keras` file, or `untrained:BACKBONE`. A folder that is called
            `default` is `./default`.
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
    path = bundle_path(text)
    if path.is_dir():
        fields = read_fields(path)
        source = _checked_source(path / MODEL_FILENAME, {"name": path.resolve().name, **fields})
        return dataclasses.replace(source, card=source.card.uncalibrated()) if raw else source
    if path.is_file() and path.suffix != ".keras":
        raise ModelError(f"{text} is no Keras model. {WHAT_TO_PASS}")
    if not path.is_file():
        raise ModelError(f"There is no model at {text!r}. {WHAT_TO_PASS}")
    return _checked_source(path, {"name": path.stem})


def bundle_path(spec: str | os.PathLike[str]) -> Path:
    """Return the absolute path of what `default` or a local path names; workers run in other folders."""
    return DEFAULT_BUNDLE if os.fspath(spec) == DEFAULT_MODEL else Path(spec).absolute()


def starting_card(backbone: str, weights: str | os.PathLike[str] | None) -> ModelCard:
    """Return the card that a training from `weights` starts with: how pixels are scaled, the input's size, the margin.

    Args:
        backbone: A name of `backbones.BACKBONES` or `backbones.OWN_BACKBONES`.
        weights: `default` or a bundle, whose card decides; anything else gives the backbone's defaults.

    Raises:
        ModelError: The backbone is unknown, or the bundle's card is unusable.
    """
    name = canonical_backbone(backbone)
    folder = None if weights is None else bundle_path(weights)
    if folder is None or not (folder / CARD_FILENAME).is_file():
        return ModelCard(name, scale=default_scale(name))
    card = load_card(folder)
    return ModelCard(
        name,
        input_size=card.input_size,
        color=card.color,
        scale=card.scale,
        mean=card.mean,
        std=card.std,
        margin=card.margin,
        sampling=card.sampling,
    )


def untrained_card(backbone: str, input_size: int = 128) -> ModelCard:
    """Return the card of `backbone` with random weights."""
    name = canonical_backbone(backbone)
    return ModelCard(UNTRAINED_PREFIX + name, input_size=input_size, scale=default_scale(name), trained=False)


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
