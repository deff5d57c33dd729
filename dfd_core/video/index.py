"""Which frames a video holds, and where each one is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dfd_core.errors import VideoError


@dataclass(frozen=True, slots=True)
class FramePosition:
    """Where one wanted frame is."""

    index: int
    """Position in the sequence of frames that a full decode returns, from 0."""
    pts: int | None
    """Presentation timestamp in the stream's time base; None: found by decoding and counting from the start."""
    time_s: float
    """Seconds since the video's first frame."""
    is_keyframe: bool = False
    """Whether it decodes without any other frame; False where that is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """Every frame that a full decode returns, in presentation order."""

    pts: npt.NDArray[np.int64]
    """(num_frames,) int64: presentation timestamps in units of `time_base`, never falling."""
    time_base: Fraction
    """Seconds per unit of `pts`."""
    is_exact: bool
    """False: timestamps do not identify frames, so a frame is found by decoding and counting from the start."""
    duration_s: float
    """Seconds from the start of the first frame to the end of the last."""
    fault: VideoError | None = None
    """Why part of the file could not be read: `VideoTruncatedError` or `VideoDamagedError`; None for a whole file."""
    keyframes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(num_keyframes,) int64: indices of the frames that decode without any other, ascending. If `is_exact`, the container flags
    them and their bits agree (`bits.starts_decoding`); otherwise the decoder calls them key frames. Empty if none is shown."""

    @property
    def num_frames(self) -> int:
        """Number of frames that a full decode returns."""
        return len(self.pts)

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        """(num_frames,) float64: seconds since the first frame, from 0.0, never falling."""
        return (self.pts - self.pts[:1]).astype(np.float64) * float(self.time_base)

    def positions(self, indices: Iterable[int]) -> list[FramePosition]:
        """Return where the frames of `indices` are.

        Raises:
            ValueError: An index is not within `0 <= index < num_frames`.
        """
        times_s, keyframes = self.times_s, set(self.keyframes.tolist())
        positions = []
        for index in indices:
            if not 0 <= index < len(self.pts):
                raise ValueError(f"Expected frame indices from 0 to {len(self.pts) - 1}. Received: {index}")
            pts = int(self.pts[index]) if self.is_exact else None
            positions.append(FramePosition(int(index), pts, float(times_s[index]), index in keyframes))
        return positions


@dataclass(frozen=True, slots=True)
class PacketFacts:
    """One demuxed packet of a video stream, without its payload."""

    pts: int | None
    duration: int
    """0: unknown."""
    is_keyframe: bool
    num_frames: int
    """Frames that it shows: 0 for a hidden reference or for one that an edit list drops; -1: cannot be told."""
    starts_decoding: bool = False
    """Whether it is flagged as a keyframe, and its bits do not deny that it needs no other packet."""


def pts_in_order(packets: Sequence[PacketFacts]) -> list[int] | None:
    """Return the timestamps of the frames that a full decode returns, ascending; None if packets cannot tell.

    >>> shown = PacketFacts(pts=0, duration=1, is_keyframe=True, num_frames=1)
    >>> pts_in_order([shown])
    [0]
    >>> pts_in_order([shown, shown]) is None
    True
    """
    if not packets or not packets[0].is_keyframe or packets[0].pts is None:
        return None
    pts: list[int] = []
    for packet in packets:
        if packet.num_frames == 0:
            continue
        if packet.num_frames != 1 or packet.pts is None or packet.pts < packets[0].pts:
            return None
        pts.append(packet.pts)
    pts.sort()
    is_unique = all(earlier < later for earlier, later in pairwise(pts))
    return pts if is_unique else None


def keyframes_of(packets: Iterable[PacketFacts], pts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return which of the frames at `pts`, ascending, come of a packet that starts decoding: (n,) indices, ascending.

    >>> key = PacketFacts(pts=40, duration=1, is_keyframe=True, num_frames=1, starts_decoding=True)
    >>> keyframes_of([key], [0, 20, 40]).tolist()
    [2]
    """
    starts = [packet.pts for packet in packets if packet.starts_decoding and packet.num_frames == 1]
    return np.flatnonzero(np.isin(np.array(pts, np.int64), np.array(starts, np.int64))).astype(np.int64)
