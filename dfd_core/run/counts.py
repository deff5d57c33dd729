"""What a finished run holds, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """What a finished run holds.

    Attributes:
        videos: Videos by status; every status is there.
        error_kinds: Videos by `error_kind`, only those that occur.
        num_frames: Frames looked at.
        num_faces: Faces scored.
        footage_s: Seconds of video that did not fail.
        stage_s: Wall-clock seconds of work by stage, summed over all workers.
        stage_cpu_s: CPU seconds of the processes that work on videos, by stage, summed likewise.
    """

    videos: dict[str, int]
    error_kinds: dict[str, int]
    num_frames: int
    num_faces: int
    footage_s: float
    stage_s: dict[str, float]
    stage_cpu_s: dict[str, float]

    @property
    def num_videos(self) -> int:
        """The number of manifest rows."""
        return sum(self.videos.values())
