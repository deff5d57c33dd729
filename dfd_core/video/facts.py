"""What a reader of a video returns: the header's facts, and frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LONGEST_S = 366 * 24 * 3600.0
"""Durations beyond are not believed, nor are negative ones."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video's header says."""

    container: str
    codec: str
    pixel_format: str
    width: int
    """Pixels, as displayed: after rotation."""
    height: int
    """Pixels, as displayed: after rotation."""
    rotation_deg: int
    """Clockwise turn that makes the stored frames upright: 0, 90, 180 or 270. `decode_frames` applies it."""
    fps: float | None
    """Average frames per second, as OpenCV's CAP_PROP_FPS; None if the header has none."""
    duration_s: float | None
    """Of the video stream, else of the container; None if the header has none."""
    num_frames_from_header: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded frame."""

    index: int
    """Position in the sequence of frames that a full decode returns, from 0."""
    time_s: float
    """Seconds since the video's first frame."""
    rgb: npt.NDArray[np.uint8]
    """(height, width, 3) uint8, 0 to 255, RGB, upright, C-contiguous."""
