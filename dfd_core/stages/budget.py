"""What a segment may still cost: CPU seconds, and pixels against the bytes of its file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dfd_core.config import Limits
from dfd_core.errors import VideoTooExpensiveError


def share_of(segment: Mapping[str, Any]) -> float:
    """Return the share of its video that a segment (SEGMENT) is, 0 to 1; 1 if the duration is unknown.

    >>> share_of({"start_s": 30.0, "end_s": 60.0, "duration_s": 120.0})
    0.25
    """
    duration_s, end_s = segment["duration_s"], segment["end_s"]
    if not duration_s or duration_s <= 0:
        return 1.0
    end_s = duration_s if end_s is None else end_s
    return float(min(1.0, max(0.0, (end_s - segment["start_s"]) / duration_s)))


def refuse_many_pixels(num_pixels: float, num_bytes: int, limits: Limits) -> None:
    """Check what a video asks for against the size of its file.

    Raises:
        VideoTooExpensiveError: It is more than any real video of that size holds.
    """
    if num_pixels > limits.pixels(num_bytes):
        raise VideoTooExpensiveError(
            f"Frames of {num_pixels / 1e9:.2f} billion pixels in {num_bytes / 1e6:.2f} MB; "
            f"the limit is {limits.max_pixels_per_byte:g} pixels for each byte"
        )


class Budget:
    """Counts what a segment has cost, from the moment that it is made."""

    def __init__(self, limits: Limits, segment: Mapping[str, Any], file: BinaryIO) -> None:
        """Take the limits, the segment (SEGMENT) and its file, open and seekable."""
        self._limits = limits
        self._max_cpu_s = limits.cpu_s(share_of(segment))
        self._num_bytes = file.seek(0, os.SEEK_END)
        self._num_pixels = 0
        self._began_cpu_s = time.process_time()

    def spend(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Count a frame, (height, width, 3).

        Raises:
            VideoTooExpensiveError: Nothing is left for it.
        """
        self._num_pixels += rgb.shape[0] * rgb.shape[1]
        refuse_many_pixels(self._num_pixels, self._num_bytes, self._limits)
        spent_s = time.process_time() - self._began_cpu_s
        if self._max_cpu_s is not None and spent_s > self._max_cpu_s:
            raise VideoTooExpensiveError(
                f"The segment took {spent_s:.1f} CPU seconds; its share of the limit is {self._max_cpu_s:.1f}"
            )
