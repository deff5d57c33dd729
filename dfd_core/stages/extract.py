"""STAGE 1, extract: seek, decode, detect, crop. One segment in, one row out; only crops leave, never frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from dfd_core.config import ExtractConfig
from dfd_core.errors import UnexpectedError, VideoError, VideoOutOfMemoryError, VideoUndecodableError
from dfd_core.faces.appearance import appearance_of
from dfd_core.faces.detect import Detect, Face, crop, cut_out
from dfd_core.faces.images import encode
from dfd_core.faces.kept import picture_of
from dfd_core.faces.quality import quality_of
from dfd_core.stages import plan
from dfd_core.stages.budget import Budget
from dfd_core.stages.probe import OpenVideo
from dfd_core.step_clock import StepClock, lost_seconds
from dfd_core.storage.text import one_line
from dfd_core.video import reader as video
from dfd_core.video.opening import open_video, retried
from dfd_core.video.shots import UNKNOWN_SHOTS, ShotLog

_MAX_IMAGES_BYTES = 10**9
"""Of one segment: Arrow addresses 2 GB in a row's list."""


def extract_segment(
    segment: Mapping[str, Any],
    config: ExtractConfig,
    detect: Detect,
    *,
    open_video: OpenVideo = open_video,
) -> dict[str, Any]:
    """Return one row of `schemas.face_crops`, or of SEGMENT_PICTURES where the configuration has an image format.

    The row of a segment with an error keeps what was decoded before it. If the storage fails, the segment is tried again.
    """
    return retried(lambda: extract_once(segment, config, detect, open_video))


def extract_once(
    segment: Mapping[str, Any], config: ExtractConfig, detect: Detect, open_video: OpenVideo
) -> dict[str, Any]:
    """Return what `extract_segment` returns; a failure of the storage is not tried again."""
    work = _Work(config, detect)
    error: VideoError | None = None
    try:
        with open_video(segment["uri"]) as file:
            work.run(file, segment)
    except VideoError as expected:
        error = expected
    except MemoryError:
        error = VideoOutOfMemoryError("The segment needs more memory than there is")
    except Exception as fault:  # a fault of ours must cost one row, not the archive
        error = UnexpectedError(f"{type(fault).__name__}: {one_line(fault)}")
    return {
        **outcome(segment, error, num_frames_wanted=work.num_frames_wanted, num_frames=work.num_frames),
        **work.clock.as_row(),
        **(work.shots.as_row() if work.num_frames else UNKNOWN_SHOTS),
        **faces_of(work.faces, config),
    }


def faces_of(faces: list[dict[str, Any]], config: ExtractConfig) -> dict[str, Any]:
    """Return the fields of a segment's row that hold its faces."""
    return {"faces": faces} | ({} if config.image_format is None else {"num_faces": len(faces)})


def outcome(
    segment: Mapping[str, Any], error: VideoError | None, *, num_frames_wanted: int = 0, num_frames: int = 0
) -> dict[str, Any]:
    """Return a segment's row without its faces and its seconds."""
    return {
        "segment_id": segment["segment_id"],
        "plan_key": segment["plan_key"],
        "num_frames_wanted": num_frames_wanted,
        "num_frames": num_frames,
        "error_kind": error.kind if error else None,
        "error_message": one_line(error) if error else None,
    }


def failed_segment(
    segment: Mapping[str, Any], error: VideoError, config: ExtractConfig, *, lost_s: float
) -> dict[str, Any]:
    """Return the row of a segment that has no result, because its video did not open or its process was lost.

    The `lost_s` seconds of wall clock count as decoding.
    """
    wanted = len(segment["frame_indices"] or ())
    return {
        **outcome(segment, error, num_frames_wanted=wanted),
        **lost_seconds(lost_s),
        **UNKNOWN_SHOTS,
        **faces_of([], config),
    }


class _Work:
    """One segment in the making: what has been found so far survives an error."""

    def __init__(self, config: ExtractConfig, detect: Detect) -> None:
        self.config = config
        self.detect = detect
        self.faces: list[dict[str, Any]] = []
        self.num_frames = 0
        self.num_frames_wanted = 0
        self.images_bytes = 0
        self.clock = StepClock("seek")
        self.shots = ShotLog()

    def run(self, file: BinaryIO, segment: Mapping[str, Any]) -> None:
        clock, max_pixels = self.clock, self.config.limits.max_pixels
        budget = Budget(self.config.limits, segment, file)
        positions, fault = sample_positions(file, segment, self.config)
        self.num_frames_wanted = len(positions)
        clock.enter("decode")
        for frame in video.decode_frames(file, positions, max_pixels=max_pixels, clock=clock):
            budget.spend(frame.rgb)
            clock.enter("detect")
            found = self.detect(frame.rgb)
            clock.enter("crop")
            self.num_frames += 1
            shot = self.shots.add(frame.rgb)
            self.faces += [
                self._row(frame, face_index, face) | {"shot": shot} for face_index, face in enumerate(found)
            ]
            clock.enter("decode")
        if not positions:
            raise fault or VideoUndecodableError("The video has no frame")
        if fault:
            raise fault

    def _row(self, frame: video.Frame, face_index: int, face: Face) -> dict[str, Any]:
        return {
            "frame_index": frame.index,
            "time_s": frame.time_s,
            "face_index": face_index,
            "left": face.left,
            "top": face.top,
            "right": face.right,
            "bottom": face.bottom,
            "detector_confidence": face.confidence,
            **quality_of(frame.rgb, face).as_row(),
            "appearance": appearance_of(frame.rgb, face),
            **self._pixels(frame.rgb, face),
        }

    def _pixels(self, rgb: npt.NDArray[np.uint8], face: Face) -> dict[str, Any]:
        config = self.config
        if config.image_format is None:
            pixels = crop(rgb, face, margin=config.margin, crop_px=config.crop_px).tobytes()
            return {"crop": pixels} | ({"picture": picture_of(rgb, face)} if config.pictures else {})
        image = encode(cut_out(rgb, face, margin=config.margin), config.image_format)
        self.images_bytes += len(image)
        if self.images_bytes > _MAX_IMAGES_BYTES:
            raise VideoOutOfMemoryError(
                "The pictures of the segment's faces take more than 1 GB: --segment-s cuts shorter"
            )
        return {"image": image}


def sample_positions(
    file: BinaryIO, segment: Mapping[str, Any], config: ExtractConfig
) -> tuple[list[video.FramePosition], VideoError | None]:
    """Return the frames of a segment (SEGMENT) to decode, ascending, and what of the file could not be read.

    Raises:
        VideoError: Nothing of the file can be read.
    """
    if segment["frame_indices"] is not None:
        listed = zip(segment["frame_indices"], segment["frame_pts"], segment["frame_times_s"], strict=True)
        is_key = config.sampling.kind == "keyframes"
        return [video.FramePosition(index, pts, time_s, is_key) for index, pts, time_s in listed], None
    index = video.index_frames(file, max_pixels=config.limits.max_pixels)
    chosen = plan.sampled_frames(
        config.sampling, index.times_s, fps=segment["fps"], keyframes=index.keyframes
    )
    return index.positions(chosen.tolist()), index.fault
