"""STAGE 0, plan: open each video once, cheaply, and cut it into segments. One row in, one row out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from dfd_core.config import ExtractConfig
from dfd_core.errors import UnexpectedError, VideoError, VideoOutOfMemoryError, VideoTooLongError
from dfd_core.stages import plan
from dfd_core.stages.budget import refuse_many_pixels
from dfd_core.storage.text import one_line
from dfd_core.video import reader as video
from dfd_core.video.opening import open_video, retried

OpenVideo = Callable[[str], BinaryIO]


def plan_video(
    request: dict[str, Any], config: ExtractConfig, *, open_video: OpenVideo = open_video
) -> dict[str, Any]:
    """Return one row of VIDEO_PLAN, which holds the error if the video cannot be opened.

    If the storage fails, the video is tried again.
    """
    return retried(lambda: plan_once(request, config, open_video))


def plan_once(request: dict[str, Any], config: ExtractConfig, open_video: OpenVideo) -> dict[str, Any]:
    """Return what `plan_video` returns; a failure of the storage is not tried again."""
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    facts = duration_s = None
    segments: list[plan.SegmentRange] = []
    error: VideoError | None = None
    try:
        with open_video(request["uri"]) as file:
            facts = video.probe(file, max_pixels=config.limits.max_pixels)
            duration_s, segments, error = _segments(file, facts, config)
    except VideoError as expected:
        error = expected
    except MemoryError:
        error = VideoOutOfMemoryError("Opening the video needs more memory than there is")
    except Exception as fault:  # a fault of ours must cost one row, not the archive
        error = UnexpectedError(f"{type(fault).__name__}: {one_line(fault)}")
    return {
        "plan_key": request["plan_key"],
        "fps": facts.fps if facts else None,
        "duration_s": duration_s if duration_s is not None else facts.duration_s if facts else None,
        "width": facts.width if facts else None,
        "height": facts.height if facts else None,
        "error_kind": error.kind if error else None,
        "error_message": str(error) if error else None,
        "probe_s": time.perf_counter() - started_s,
        "probe_cpu_s": time.process_time() - started_cpu_s,
        "segments": [segment.as_row() for segment in segments],
    }


def failed_plan(request: Mapping[str, Any], error: VideoError, *, lost_s: float) -> dict[str, Any]:
    """Return the row of a video of which nothing is known: it did not open, or the process that opened it was lost.

    That took `lost_s` seconds of wall clock; the CPU seconds are unknown and count as 0.
    """
    return {
        "plan_key": request["plan_key"],
        **dict.fromkeys(("fps", "duration_s", "width", "height")),
        "error_kind": error.kind,
        "error_message": one_line(error),
        "probe_s": lost_s,
        "probe_cpu_s": 0.0,
        "segments": [],
    }


def _segments(
    file: BinaryIO, facts: video.VideoFacts, config: ExtractConfig
) -> tuple[float | None, list[plan.SegmentRange], VideoError | None]:
    """Return the video's duration, its segments, and what of it could not be read.

    Of a video with one segment only the header is read: the worker that extracts it reads the rest anyway.
    """
    _refuse_long(facts.duration_s, config)
    if facts.duration_s is not None and facts.duration_s <= config.segment_s:
        return facts.duration_s, [plan.WHOLE_VIDEO], None
    index = video.index_frames(file, max_pixels=config.limits.max_pixels)
    _refuse_long(index.duration_s, config)
    if not index.is_exact or index.duration_s <= config.segment_s:
        return index.duration_s, [plan.WHOLE_VIDEO], None
    chosen = plan.sampled_frames(config.sampling, index.times_s, fps=facts.fps, keyframes=index.keyframes)
    refuse_many_pixels(len(chosen) * facts.width * facts.height, file.seek(0, os.SEEK_END), config.limits)
    segments = plan.cut(
        index.duration_s,
        config.segment_s,
        indices=chosen,
        pts=index.pts[chosen],
        times_s=index.times_s[chosen],
    )
    return index.duration_s, segments, index.fault


def _refuse_long(duration_s: float | None, config: ExtractConfig) -> None:
    limit_s = config.limits.max_duration_s
    if duration_s is not None and limit_s is not None and duration_s > limit_s:
        raise VideoTooLongError(f"The video lasts {duration_s:.0f} s; the limit is {limit_s:.0f} s")
