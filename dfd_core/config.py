"""The settings of a run, as frozen and validated values."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from dfd_core.errors import RequestError

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
IMAGE_FORMATS = ("png", "jpeg")
SANDBOXES = ("auto", "require", "off")
DETECTORS = ("dlib", "fast")
_DETECTOR_WINDOW_PX = 80
_LEAST_CPU_S = 60.0
_FREE_BYTES = 500_000

SAMPLINGS = "stride, interval:S, uniform:N or keyframes"
"""The forms that `Sampling.parse` takes, for messages."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames of a video are looked at.

    `stride`: every frame whose index is a multiple of `int(fps) + 1`, about one a second.
    `interval`: the first frame at or after every `value` seconds.
    `uniform`: `value` frames at the midpoints of that many equal parts.
    `keyframes`: frames that decode without any other frame, each at least `int(fps) + 1` frames after the one before. The encoder
    decides how many there are; it may be only one.
    """

    kind: Literal["stride", "interval", "uniform", "keyframes"] = "stride"
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.kind == "interval" and not (math.isfinite(self.value) and self.value > 0):
            raise RequestError(f"Expected interval:S with S > 0 seconds. Received: interval:{self.value:g}")
        if self.kind == "uniform" and not (self.value >= 1 and float(self.value).is_integer()):
            raise RequestError(f"Expected uniform:N with a whole N >= 1. Received: uniform:{self.value:g}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the sampling that `text` names.

        >>> Sampling.parse("interval:0.5")
        Sampling(kind='interval', value=0.5)

        Raises:
            RequestError: `text` is not `stride`, `interval:S`, `uniform:N` or `keyframes`.
        """
        kind, _, value = text.partition(":")
        if text in ("stride", "keyframes"):
            return cls(text)  # type: ignore[arg-type]
        if kind in ("interval", "uniform"):
            try:
                return cls(kind, float(value))  # type: ignore[arg-type]
            except ValueError:
                pass
        raise RequestError(f"Expected sampling {SAMPLINGS}. Received: {text!r}")

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:g}" if self.kind in ("interval", "uniform") else self.kind


_MOST_FRAMES = 10**9

AGGREGATIONS = "mean, median, max, topk:K or worst-track"
"""What `Aggregation.parse` reads, for a person."""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """How the scores of a video's faces become one number.

    `mean`, `median`, `max` and `topk` are over the frames with a face; a frame's score is its highest face, and `topk` is the mean of the `k`
    highest frames. `worst-track` is the score of the most suspicious track; a video with one track is scored by `mean`.
    """

    kind: Literal["mean", "median", "max", "topk", "worst-track"] = "worst-track"
    k: int = 0

    def __post_init__(self) -> None:
        if self.kind == "topk" and not 1 <= self.k <= _MOST_FRAMES:
            raise RequestError(
                f"Expected topk:K with a whole K from 1 to {_MOST_FRAMES}. Received: topk:{self.k}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the aggregation that `text` names.

        >>> Aggregation.parse("topk:5")
        Aggregation(kind='topk', k=5)

        Raises:
            RequestError: `text` is none of `AGGREGATIONS`.
        """
        kind, _, k = text.partition(":")
        if text in ("mean", "median", "max", "worst-track"):
            return cls(text)  # type: ignore[arg-type]
        if kind == "topk" and k.isdecimal():
            return cls("topk", int(k))
        raise RequestError(f"Expected aggregation {AGGREGATIONS}. Received: {text!r}")

    def __str__(self) -> str:
        return self.kind if self.kind != "topk" else f"topk:{self.k}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one video may cost before it fails. None means no limit.

    Attributes:
        max_pixels: Pixels of one frame.
        max_duration_s: Duration of a video, seconds.
        timeout_factor: Wall-clock seconds that a segment may take for each second of its duration.
        timeout_floor_s: Wall-clock seconds that any segment may take.
        memory_mb: Resident memory of the process that decodes, MB (10^6 bytes).
        max_cpu_s: CPU seconds of a video; a segment has its share of them.
        max_pixels_per_byte: Pixels of all frames looked at, for each byte of the file and of half a million more.
        sandbox: How the process that decodes is confined: `auto` as far as the system can, `require` fully or not at all,
            `off` not.
    """

    max_pixels: int | None = 8192 * 8192
    max_duration_s: float | None = 24 * 3600.0
    timeout_factor: float = 10.0
    timeout_floor_s: float = 300.0
    memory_mb: int | None = 4000
    max_cpu_s: float | None = 8 * 3600.0
    max_pixels_per_byte: float | None = 20_000.0
    sandbox: str = "auto"

    def __post_init__(self) -> None:
        if self.sandbox not in SANDBOXES:
            raise RequestError(f"Expected a sandbox of {', '.join(SANDBOXES)}. Received: {self.sandbox}")
        for limit in fields(self):
            value = getattr(self, limit.name)
            if limit.name != "sandbox" and value is not None and not value > 0:
                raise RequestError(f"Expected {limit.name} > 0. Received: {value}")

    def cpu_s(self, share: float) -> float | None:
        """Return the CPU seconds of a segment that is `share`, 0 to 1, of its video: a minute or more if the video has one.

        >>> Limits(max_cpu_s=6000.0).cpu_s(0.1), Limits(max_cpu_s=6000.0).cpu_s(0.001)
        (600.0, 60.0)
        """
        if self.max_cpu_s is None:
            return None
        return max(self.max_cpu_s * min(share, 1.0), min(self.max_cpu_s, _LEAST_CPU_S))

    def pixels(self, num_bytes: int) -> float:
        """Return the most pixels that may be looked at in a file of `num_bytes`.

        Few bytes can ask for any number of frames: one sample of an MP4 may be shown again and again.
        """
        if self.max_pixels_per_byte is None:
            return math.inf
        return self.max_pixels_per_byte * (num_bytes + _FREE_BYTES)

    def timeout_s(self, duration_s: float | None) -> float:
        """Return the wall-clock seconds that a segment of `duration_s` seconds may take.

        >>> Limits(timeout_factor=10.0, timeout_floor_s=300.0).timeout_s(60.0)
        600.0
        """
        return max(self.timeout_floor_s, self.timeout_factor * (duration_s or 0.0))


_NO_IDENTITY = {"identity": False}


@dataclass(frozen=True, slots=True)
class ExtractConfig:
    """Everything that decides which crops an extraction makes.

    Attributes:
        sampling: Which frames are looked at.
        segment_s: Longest segment, seconds.
        crop_px: Side of the square crop, pixels. Not used with `image_format`.
        margin: Fraction of the box's side that is added on each side before cropping.
        limits: What one video may cost.
        image_format: `png` or `jpeg` to keep encoded pictures in the faces' own size; None to make crops.
        detect_max_side_px: Longest side of the frame that the detector sees, pixels; a larger frame is scaled down.
            None: the detector's own choice, which is the full size for `dlib`.
        pictures: Whether each face comes with a picture to look at. It changes no crop, so runs that differ in it are the same
            configuration.
        detector: Which face detector finds the faces, one of `DETECTORS`.
    """

    sampling: Sampling = field(default_factory=Sampling)
    segment_s: float = 600.0
    crop_px: int = 128
    margin: float = 0.0
    limits: Limits = field(default_factory=Limits)
    image_format: str | None = None
    detect_max_side_px: int | None = None
    pictures: bool = field(default=False, metadata=_NO_IDENTITY)
    detector: str = "dlib"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.segment_s) and self.segment_s > 0):
            raise RequestError(f"Expected a segment length > 0 seconds. Received: {self.segment_s}")
        if self.crop_px < 1:
            raise RequestError(f"Expected a crop side >= 1 pixel. Received: {self.crop_px}")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise RequestError(f"Expected a margin >= 0. Received: {self.margin}")
        if self.image_format not in (None, *IMAGE_FORMATS):
            raise RequestError(
                f"Expected pictures as {' or '.join(IMAGE_FORMATS)}. Received: {self.image_format}"
            )
        if self.detector not in DETECTORS:
            raise RequestError(f"Expected a detector {' or '.join(DETECTORS)}. Received: {self.detector}")
        if self.detect_max_side_px is not None and self.detect_max_side_px < _DETECTOR_WINDOW_PX:
            raise RequestError(
                f"Expected a longer side for the detector >= {_DETECTOR_WINDOW_PX} pixels, the size of its window. "
                f"Received: {self.detect_max_side_px}"
            )


def identity(values: dict[str, Any]) -> str:
    """Return a short hash of `values`. It does not depend on the order of the keys or on the process."""
    text = json.dumps(values, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def as_json(config: Any) -> dict[str, Any]:
    """Return a configuration dataclass as JSON values; sampling and aggregation become text."""
    outside = {field.name for field in fields(config) if field.metadata == _NO_IDENTITY}
    return {
        key: str(getattr(config, key)) if isinstance(getattr(config, key), Sampling | Aggregation) else value
        for key, value in asdict(config).items()
        if key not in outside
    }
