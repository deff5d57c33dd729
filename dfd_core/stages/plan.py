"""Probe facts → segments → sample positions. Pure arithmetic: nothing here opens a file."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dfd_core.config import Sampling


@dataclass(frozen=True, slots=True)
class SegmentRange:
    """`[start_s, end_s)` of a video in seconds since its first frame; `end_s` None means to the end.

    `frame_indices`, `frame_pts` and `frame_times_s` list the sampled frames, ascending, or are None where the segment
    is the whole video: the worker that decodes it then finds them itself.
    """

    start_s: float
    end_s: float | None
    frame_indices: list[int] | None = None
    frame_pts: list[int] | None = None
    frame_times_s: list[float] | None = None

    def as_row(self) -> dict[str, Any]:
        """Return the segment as a row of `schemas.SEGMENT_RANGE`."""
        return {name: getattr(self, name) for name in self.__slots__}


WHOLE_VIDEO = SegmentRange(0.0, None)


def stride_frames(fps: float | None) -> int:
    """Return the distance between two sampled frames under the `stride` rule, frames.

    Zero, unknown and infinite rates count as 0, as OpenCV reports them: every frame is then taken.

    >>> stride_frames(29.97), stride_frames(30.0), stride_frames(None)
    (30, 31, 1)
    """
    return int(fps) + 1 if fps is not None and math.isfinite(fps) and fps > 0 else 1


def sampled_frames(
    sampling: Sampling,
    times_s: npt.NDArray[np.float64],
    *,
    fps: float | None,
    keyframes: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return the indices of the frames to look at, ascending, each once.

    Args:
        sampling: The rule.
        times_s: (n,) presentation times of the video's n frames, ascending, seconds since the first.
        fps: The container's average frame rate; None if unknown. Only `stride` and `keyframes` use it.
        keyframes: (k,) indices of the frames that decode without any other, ascending. Only `keyframes` uses them; where
            there is none, it takes the first frame.

    Example:
        >>> times_s, keyframes = np.arange(100) / 25, np.array([0, 10, 40, 60, 70])
        >>> sampled_frames(Sampling.parse("uniform:2"), times_s, fps=25.0, keyframes=keyframes).tolist()
        [25, 75]
        >>> sampled_frames(Sampling.parse("keyframes"), times_s, fps=25.0, keyframes=keyframes).tolist()
        [0, 40, 70]
    """
    count = len(times_s)
    if sampling.kind == "stride":
        return np.arange(0, count, stride_frames(fps), dtype=np.int64)
    if sampling.kind == "uniform":
        parts = int(sampling.value)
        return (
            np.unique((2 * np.arange(parts, dtype=np.int64) + 1) * count // (2 * parts)) if count else _NONE
        )
    if sampling.kind == "keyframes":
        first = np.arange(min(count, 1), dtype=np.int64)
        return _apart(keyframes if len(keyframes) else first, stride_frames(fps))
    return _interval_frames(sampling.value, times_s)


_NONE = np.zeros(0, np.int64)


def _interval_frames(interval_s: float, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    if len(times_s) == 0:
        return _NONE
    # Timestamps are rounded to the container's time base, so a frame that is due counts from a microsecond before.
    ticks = np.arange(0, math.floor(times_s[-1] / interval_s + 1e-6) + 1, dtype=np.float64) * interval_s
    found = np.searchsorted(times_s, ticks - 1e-6, side="left").astype(np.int64)
    return np.unique(found[found < len(times_s)])


def _apart(indices: npt.NDArray[np.int64], distance: int) -> npt.NDArray[np.int64]:
    """Return the first of `indices`, and each next one that is at least `distance` after the last one returned."""
    taken: list[int] = []
    at = 0
    while at < len(indices):
        taken.append(int(indices[at]))
        at = int(np.searchsorted(indices, taken[-1] + distance))
    return np.array(taken, np.int64)


def cut(
    duration_s: float, segment_s: float, *, indices: npt.NDArray[np.int64], pts: npt.NDArray[np.int64],
    times_s: npt.NDArray[np.float64],
) -> list[SegmentRange]:  # fmt: skip
    """Return the segments of a video that is longer than one, each with its own sampled frames.

    The segments are of equal length, at most `segment_s`; every sampled frame is in exactly one of them, and a
    segment without a sampled frame is left out.

    Args:
        duration_s: The video's duration, seconds.
        segment_s: Longest segment, seconds.
        indices: (n,) indices of the sampled frames, ascending.
        pts: (n,) their timestamps, in the stream's time base.
        times_s: (n,) their times, seconds since the first frame.
    """
    count = max(1, math.ceil(duration_s / segment_s))
    edges_s = [position * duration_s / count for position in range(count)]
    starts = [*np.searchsorted(times_s, edges_s, side="left").tolist(), len(times_s)]
    starts[0] = 0
    return [
        SegmentRange(
            start_s=edges_s[position],
            end_s=edges_s[position + 1] if position + 1 < count else None,
            frame_indices=indices[first:last].tolist(),
            frame_pts=pts[first:last].tolist(),
            frame_times_s=times_s[first:last].tolist(),
        )
        for position, (first, last) in enumerate(itertools.pairwise(starts))
        if last > first
    ]


def segment_id(plan_key: str, position: int) -> str:
    """Return the identifier of a video version's segment, unique in a run.

    >>> segment_id("5f0c", 3)
    '5f0c-00003'
    """
    return f"{plan_key}-{position:05d}"
