"""A bundle's card: how crops become the model's input, and what its output means. Needs no model runtime."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfd_core.config import SAMPLINGS
from dfd_core.errors import ModelError
from dfd_core.model.calibration import Calibration
from dfd_core.model.card_values import (
    MAX_NAME,
    are_classes,
    are_limits,
    are_ordered,
    is_calibration,
    is_int,
    is_name,
    is_number,
    is_sampling,
    is_triple,
    why_unwritable,
)

MODEL_FILENAME = "model.keras"
CARD_FILENAME = "card.json"
WHAT_TO_PASS = (
    "Pass a bundle folder, a .keras file or untrained:BACKBONE, or `default` for the detector that ships"
)
"""The end of every message about an unusable model."""

_MEANING = ("color", "scale", "mean", "std", "classes", "output")
COLORS = ("rgb", "bgr")
SCALES = ("x/255", "x/127.5-1", "x")
OUTPUTS = ("probability", "logit")

_MAX_CARD_BYTES = 16 << 20
_MAX_RULE = 2000

_OPTIONAL = ("mean", "std", "calibration", "threshold_low", "threshold_high", "verdict_rule")
_TWO_THRESHOLDS = "with `threshold_high` two numbers, 0 <= low <= high <= 1, or both null"
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        threshold: Where two verdicts are wanted, the verdict is fake if p_fake is at least this; in [0, 1].
        threshold_low: The verdict is real below it; in [0, `threshold_high`]. None with `threshold_high`: then `threshold`
            alone decides, and no verdict is uncertain.
        threshold_high: The verdict is fake from it on; in [`threshold_low`, 1].
        verdict_rule: How the two thresholds were chosen, in words; None without them.
        limits: What `quality_limits.QualityLimits.from_card` reads: beyond it the verdict is uncertain.
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
    threshold_low: float | None = None
    threshold_high: float | None = None
    verdict_rule: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
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
        self._check("name", is_name(self.name), f"text that can be printed, of at most {MAX_NAME} characters")
        size = self.input_size
        self._check("input_size", is_int(size) and 8 <= size <= 2048, "pixels, an integer from 8 to 2048")
        self._check("color", self.color in COLORS, f"one of {', '.join(COLORS)}")
        self._check("scale", self.scale in SCALES, f"one of {', '.join(SCALES)}")
        self._check("mean", self.mean is None or is_triple(self.mean), "three numbers")
        self._check(
            "std", self.std is None or (is_triple(self.std) and min(self.std) > 0), "three positive numbers"
        )
        self._check("margin", is_number(self.margin) and 0 <= self.margin <= 10, "a number from 0 to 10")
        self._check(
            "classes", are_classes(self.classes), '["fake", "real"], ["real", "fake"], ["fake"] or ["real"]'
        )
        self._check("output", self.output in OUTPUTS, f"one of {', '.join(OUTPUTS)}")
        self._check(
            "threshold", is_number(self.threshold) and 0 <= self.threshold <= 1, "a number from 0 to 1"
        )
        self._check("threshold_low", are_ordered(self.threshold_low, self.threshold_high), _TWO_THRESHOLDS)
        self._check(
            "verdict_rule",
            self.verdict_rule is None
            or (isinstance(self.verdict_rule, str) and len(self.verdict_rule) <= _MAX_RULE),
            f"text of at most {_MAX_RULE} characters, or null",
        )
        self._check("limits", are_limits(self.limits), "an object of limits, each a number of at least 0")
        self._check(
            "calibration",
            self.calibration is None or is_calibration(self.calibration),
            'null, {"kind": "temperature", "temperature": T > 0}, "logistic" with bias too, or "isotonic" with p_raw and p_fake',
        )
        self._check("sampling", is_sampling(self.sampling), SAMPLINGS)
        self._check("trained", isinstance(self.trained, bool), "true or false")
        for name in ("training", "metrics", "versions", "extra"):
            self._check(name, isinstance(getattr(self, name), Mapping), "an object")
        sha_ok = self.sha256 is None or (
            isinstance(self.sha256, str) and _SHA256.fullmatch(self.sha256) is not None
        )
        self._check("sha256", sha_ok, "64 lower-case hexadecimal digits or null")

    @property
    def meaning(self) -> dict[str, Any]:
        """The fields that change a score, apart from the model's file, as JSON; fields at their default are left out.

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
                f"card.json: `{name}` is unusable. Expected {expected}. Received: {getattr(self, name)!r:.200}"
            )

    @property
    def model_id(self) -> str:
        """What identifies the model in every output row: `name@` and the first 12 digits of its sha256."""
        return self.name if self.sha256 is None else f"{self.name}@{self.sha256[:12]}"

    def uncalibrated(self) -> ModelCard:
        """Return the card without its calibration, and with the thresholds that say the same of raw scores."""
        if self.calibration is None:
            return self
        calibration = Calibration.from_card(self.calibration)
        low, high = self.threshold_low, self.threshold_high
        return dataclasses.replace(
            self,
            calibration=None,
            threshold=calibration.invert(self.threshold),
            threshold_low=None if low is None else calibration.invert(low),
            threshold_high=None if high is None else calibration.invert(high),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `card.json`; an unset optional one is left out."""
        values = dataclasses.asdict(self)
        extra = values.pop("extra")
        kept = {name: value for name, value in values.items() if name not in _OPTIONAL or value is not None}
        return {**kept, **extra}

    def to_json(self) -> str:
        """Return the text of `card.json`."""
        return json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n"


def load_card(folder: str | os.PathLike[str]) -> ModelCard:
    """Return the card of the bundle at `folder`, without reading its model.

    Raises:
        ModelError: `card.json` is missing, is not JSON, or has an unusable field.
    """
    path = Path(folder)
    return card_from_fields({"name": path.resolve().name, **read_fields(path)})


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


def read_fields(folder: Path) -> dict[str, Any]:
    """Return the decoded `card.json` of the bundle at `folder`.

    Raises:
        ModelError: It is missing or is no JSON object.
    """
    path = folder / CARD_FILENAME
    if not path.is_file():
        also = (
            f"; for the defaults pass {folder / MODEL_FILENAME}"
            if (folder / MODEL_FILENAME).is_file()
            else ""
        )
        raise ModelError(f"{folder} is no model bundle: it has no {CARD_FILENAME}. {WHAT_TO_PASS}{also}")
    try:
        if path.stat().st_size > _MAX_CARD_BYTES:
            raise ModelError(f"{path} is too large. Expected at most {_MAX_CARD_BYTES >> 20} MiB")
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ModelError(f"{path}: Expected an object. Received: {type(fields).__name__}")
    if problem := why_unwritable(fields):
        raise ModelError(f"{path} is unusable: it {problem}")
    return fields
