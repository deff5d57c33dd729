"""Read untrusted videos: the header's facts, the index of all frames, and exact frames.

A video is always an opened, seekable, binary file object: FFmpeg itself never opens anything. Whatever FFmpeg, PyAV and
the file object raise leaves this package as a `VideoError`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice, pairwise
from typing import BinaryIO

import av

from dfd_core.step_clock import StepClock
from dfd_core.video.colour import turn_deg
from dfd_core.video.completeness import refuse_broken, undecodable
from dfd_core.video.container import opened_video
from dfd_core.video.decode import by_counting, by_timestamp, keyframes_only, needed_only
from dfd_core.video.facts import LONGEST_S, Frame, VideoFacts
from dfd_core.video.index import FrameIndex, FramePosition
from dfd_core.video.indexing import NUM_HEAD_PACKETS, index_frames
from dfd_core.video.opened import OpenedVideo

__all__ = ["Frame", "FrameIndex", "FramePosition", "VideoFacts", "decode_frames", "index_frames", "probe"]


def probe(file: BinaryIO, *, max_pixels: int | None = None) -> VideoFacts:
    """Return what the header of the video in `file` says.

    Args:
        file: Opened for reading in binary, seekable.
        max_pixels: The most pixels that a frame may have; None for FFmpeg's own limit.

    Raises:
        VideoTooLargeError: A frame has more than `max_pixels`.
        VideoError: The video cannot be opened: empty, not_a_video, unreadable, no_video_stream, unsupported_codec,
            storage or out_of_memory.
    """
    with opened_video(file, max_pixels) as video:
        stream, width, height = video.stream, video.width, video.height
        rate = stream.average_rate or stream.guessed_rate
        shown = map(video.frame_shown_first, islice(video.packets(), NUM_HEAD_PACKETS))
        first = next(filter(None, shown), None)
        rotation_deg = turn_deg(first) if first else 0
        is_turned = rotation_deg in (90, 270)
        return VideoFacts(
            container=video.container.format.name,
            codec=video.codec,
            pixel_format=video.context.pix_fmt or "unknown",
            width=height if is_turned else width,
            height=width if is_turned else height,
            rotation_deg=rotation_deg,
            fps=float(rate) if rate else None,
            duration_s=_duration_s(video),
            num_frames_from_header=stream.frames or None,
        )


def _duration_s(video: OpenedVideo) -> float | None:
    """Return the duration that the header states, None if it states none, or one that no video has."""
    if video.stream.duration is not None:
        duration_s = float(video.stream.duration * video.time_base)
    else:
        duration_s = (video.container.duration or 0) / av.time_base
    return duration_s if 0 < duration_s <= LONGEST_S else None


def decode_frames(
    file: BinaryIO,
    positions: Sequence[FramePosition],
    *,
    max_pixels: int | None = None,
    clock: StepClock | None = None,
) -> Iterator[Frame]:
    """Return an iterator over the frames at `positions`, bit-identical to those that a full decode returns.

    If every position has its `pts`, decoding starts at the keyframe before the first one and leaves out what no wanted
    frame needs; if all are keyframes, it decodes their packets alone. When that meets anything broken, the rest is decoded
    again without leaving anything out, and counted from the start if the first position is frame 0. As far as OpenCV's
    loop of one thread reads a damaged video, the frames are those of that loop; beyond, decoding and counting go on.

    Args:
        file: Opened for reading in binary, seekable.
        positions: By ascending index.
        max_pixels: The most pixels that a frame may have; None for FFmpeg's own limit.
        clock: Is told when a decoded frame becomes upright RGB (`convert`), and when that is done.

    Raises:
        ValueError: `positions` do not ascend.
        VideoTruncatedError: After the last frame that could be had; the video ends before the others.
        VideoDamagedError: After the last frame that could be had; something up to there did not decode.
        VideoUndecodableError: Not one frame of the video decodes.
        VideoError: As for `probe`.
    """
    if any(earlier.index >= later.index for earlier, later in pairwise(positions)):
        raise ValueError("Expected positions of ascending index")
    reopen = partial(opened_video, file, max_pixels, clock)
    return _decoded(reopen, list(positions)) if positions else iter(())


_Reopen = Callable[[], AbstractContextManager[OpenedVideo]]
"""Opens the same file from its start, each time."""


def _decoded(reopen: _Reopen, positions: Sequence[FramePosition]) -> Iterator[Frame]:
    due = list(reversed(positions))
    has_pts = all(position.pts is not None for position in positions)
    if has_pts and all(position.is_keyframe for position in positions):
        yield from _from_keyframe(keyframes_only, reopen, due)
    if has_pts and due:
        yield from _from_keyframe(needed_only, reopen, due)
    if not due:
        return
    if has_pts and positions[0].index > 0:
        video = yield from _from_keyframe(by_timestamp, reopen, due)
    else:
        with reopen() as video:
            yield from by_counting(video, due)
            if not video.num_frames:
                raise undecodable()
    refuse_broken(video, num_missing=len(due), num_wanted=len(positions))


def _from_keyframe(
    decode: Callable[[OpenedVideo, list[FramePosition], bool], Iterator[Frame]],
    reopen: _Reopen,
    due: list[FramePosition],
) -> Generator[Frame, None, OpenedVideo]:
    """Yield what `decode` yields from the keyframe before the next frame, or from the start if seeking misses it."""
    seeks = due[-1].index > 0
    while True:
        with reopen() as video:
            yield from decode(video, due, seeks)
        if not (seeks and video.is_lost):
            return video
        seeks = False
