"""What a finished run holds, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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

    def as_json(self) -> dict[str, Any]:
        """Return the numbers of videos, frames and faces as JSON values."""
        return {
            "videos": self.num_videos,
            **self.videos,
            "error_kinds": self.error_kinds,
            "frames": self.num_frames,
            "faces": self.num_faces,
            "footage_s": round(self.footage_s, 3),
        }

    @property
    def num_videos(self) -> int:
        """The number of manifest rows."""
        return sum(self.videos.values())
