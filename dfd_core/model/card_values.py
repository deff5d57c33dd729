"""What the fields of a card may hold. The values come from a JSON file that somebody else wrote."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from dfd_core.config import Sampling
from dfd_core.errors import RequestError
from dfd_core.model.calibration import Calibration
from dfd_core.model.quality_limits import QualityLimits

_MAX_DEPTH = 50
MAX_NAME = 200
"""Characters of a card's name, which every row of the output repeats."""


def is_int(value: object) -> bool:
    """Return whether a decoded JSON value is an integer; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a decoded JSON value is a finite number; an integer of hundreds of digits is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_name(value: object) -> bool:
    """Return whether a decoded JSON value is a name; a lone surrogate is not printable."""
    return isinstance(value, str) and value.strip() != "" and len(value) <= MAX_NAME and value.isprintable()


def is_triple(value: object) -> bool:
    """Return whether a value is three numbers."""
    return isinstance(value, tuple) and len(value) == 3 and all(is_number(entry) for entry in value)


def is_calibration(value: object) -> bool:
    """Return whether a decoded JSON value is a calibration."""
    try:
        return isinstance(value, Mapping) and bool(Calibration.from_card(value))
    except (ValueError, TypeError, OverflowError):
        return False


def are_ordered(low: object, high: object) -> bool:
    """Return whether two thresholds are both absent, or both in [0, 1] and in order."""
    if low is None or high is None:
        return low is high
    return is_number(low) and is_number(high) and 0 <= low <= high <= 1  # type: ignore[operator]


def are_limits(value: object) -> bool:
    """Return whether a decoded JSON value holds limits of the quality."""
    try:
        return isinstance(value, Mapping) and bool(QualityLimits.from_card(value))
    except (ValueError, TypeError, OverflowError):
        return False


def is_sampling(value: object) -> bool:
    """Return whether a decoded JSON value names a sampling."""
    try:
        return isinstance(value, str) and bool(Sampling.parse(value))
    except RequestError:
        return False


def are_classes(value: object) -> bool:
    """Return whether a value names the classes of a model."""
    return value in [("fake", "real"), ("real", "fake"), ("fake",), ("real",)]


def why_unwritable(value: object) -> str | None:
    """Return why a decoded JSON value could not be written again, as `run.json` does; None if it could."""
    pending: list[tuple[object, int]] = [(value, 1)]
    while pending:
        value, depth = pending.pop()
        if depth > _MAX_DEPTH:
            return f"is nested deeper than {_MAX_DEPTH} levels"
        if isinstance(value, dict):
            pending += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            pending += [(part, depth + 1) for part in value]
        elif isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return "holds text that is not Unicode"
    return None
