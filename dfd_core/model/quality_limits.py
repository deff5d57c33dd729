"""How good a video must be for its score to become a verdict, as the card says it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """The limits of the evidence; None does not limit.

    Attributes:
        min_frames: Fewest frames with a scored face.
        min_side_px: Smallest median side of the faces, pixels of the source.
        min_sharpness: Smallest median sharpness of the faces.
        max_blockiness: Largest median blockiness of the faces.
        min_bits_per_pixel: Fewest bits of the file per pixel of video.
    """

    min_frames: int | None = None
    min_side_px: float | None = None
    min_sharpness: float | None = None
    max_blockiness: float | None = None
    min_bits_per_pixel: float | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None and not _is_limit(value):
                raise ValueError(f"Expected {entry.name} to be a number of at least 0. Received: {value!r}")

    @classmethod
    def from_card(cls, values: Mapping[str, Any]) -> Self:
        """Return the limits of a card's field `limits`.

        Raises:
            ValueError: A limit is unknown or is no number of at least 0.

        >>> QualityLimits.from_card({"min_frames": 3}).min_frames
        3
        """
        unknown = sorted(values.keys() - {entry.name for entry in fields(cls)})
        if unknown:
            raise ValueError(f"Unknown limits: {', '.join(map(str, unknown))}")
        return cls(**values)

    def to_card(self) -> dict[str, float]:
        """Return what `from_card` takes."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _is_limit(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value <= sys.float_info.max
