"""Open untrusted videos, state their facts and return exact frames. The only importer of `av`.

A video is always an already opened, seekable, binary file object: FFmpeg itself never opens anything. What FFmpeg,
PyAV and the file object raise leaves this module as a `VideoError`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import atan2, degrees, hypot
from typing import Any, BinaryIO, NoReturn, cast

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from dfd_core.errors import (
    NotAVideoError,
    NoVideoStreamError,
    UnsupportedCodecError,
    VideoDamagedError,
    VideoError,
    VideoOutOfMemoryError,
    VideoTooLargeError,
    VideoTruncatedError,
    VideoUndecodableError,
    VideoUnreadableError,
)
from dfd_core.video_file import VideoFile, declared_size, is_audio, is_iso_media, is_picture_brand, other_kind
from dfd_core.video_index import (
    FrameIndex,
    FramePosition,
    PacketFacts,
    nal_length_size,
    num_frames_shown,
    pts_in_order,
    starts_decoding,
)

__all__ = ["Frame", "FrameIndex", "FramePosition", "VideoFacts", "decode_frames", "index_frames", "probe"]

_DEMUXERS = (
    "mov,matroska,avi,flv,live_flv,kux,mpegts,mpeg,mpegvideo,asf,ogg,ivf,nut,mxf,gxf,rm,wtv,dv,nsv,nuv,av1,obu,h261,"
    "h263,h264,hevc,vvc,m4v,vc1,vc1test,dirac,cavsvideo,avs2,avs3,yuv4mpegpipe"
)
"""Every other one is refused: playlists, picture sequences, subtitles, scripts, devices."""

_MP4, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
_TIMED_HEADERS = (_MATROSKA, "flv", "asf")
"""Containers whose header states a duration that was written, not estimated."""
_GENERATE_PTS = 1
_BUFFER_BYTES = 1 << 19
_MAX_WAITING_BYTES = 1 << 25
_MIN_SEEK_S = 20.0
_NUM_HEAD_PACKETS = 100
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FAULTS = (FFmpegError, ValueError, LookupError, ArithmeticError, RuntimeError)
"""What PyAV was seen to raise on damaged files, beside `MemoryError`. Caught around single calls of it only."""


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
    """Average frames per second, as OpenCV's CAP_PROP_FPS; None if the header does not tell."""
    duration_s: float | None
    """Of the video stream, else of the container; None if the header does not tell."""
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
    with _opened(file, max_pixels) as video:
        stream, context = video.stream, video.context
        width, height, pixel_format = context.width, context.height, context.pix_fmt
        first = video.first_frame()
        rotation_deg = _rotation_deg(first) if first else 0
        is_turned = rotation_deg in (90, 270)
        return VideoFacts(
            container=video.container.format.name,
            codec=video.codec,
            pixel_format=pixel_format or context.pix_fmt or "unknown",
            width=height if is_turned else width,
            height=width if is_turned else height,
            rotation_deg=rotation_deg,
            fps=float(stream.average_rate) if stream.average_rate else None,
            duration_s=_duration_s(video),
            num_frames_from_header=stream.frames or None,
        )


def index_frames(file: BinaryIO, *, max_pixels: int | None = None) -> FrameIndex:
    """Return every frame that a full decode of `file` returns, from one pass over its packets.

    Where packets do not tell (timestamps missing or doubled, interlaced pictures, codecs whose packets do not match
    frames, a damaged beginning), all frames are decoded once to know them, and `is_exact` is False.

    Raises:
        VideoUndecodableError: Not one frame of the file decodes.
        VideoError: As for `probe`.
    """
    with _opened(file, max_pixels) as video:
        packets = list(video.packet_facts())
        fault = video.fault(packets)
    pts = pts_in_order([packet for packet in packets if packet.is_whole])
    if pts is not None:
        with _opened(file, max_pixels) as video:
            if video.begins_at(pts[0]):
                return _frame_index(pts, video, packets, is_exact=True, fault=fault)
    with _opened(file, max_pixels) as video:
        frames_pts = [frame.pts for frame in video.frames()]
        if not frames_pts:
            raise _undecodable(len(packets))
        return _frame_index(frames_pts, video, packets, is_exact=False, fault=fault)


def decode_frames(
    file: BinaryIO, positions: Sequence[FramePosition], *, max_pixels: int | None = None
) -> Iterator[Frame]:
    """Return an iterator over the frames at `positions`, bit-identical to those that a full decode returns.

    Where every position has its `pts`, decoding starts at the keyframe before the first one and leaves out what no
    wanted frame needs. If that meets anything broken, the rest is decoded again without leaving anything out, and
    counted from the start if the first position is frame 0, so that a damaged video gives the frames of a plain loop.

    Args:
        file: Opened for reading in binary, seekable.
        positions: By ascending index.
        max_pixels: The most pixels that a frame may have; None for FFmpeg's own limit.

    Raises:
        ValueError: `positions` do not ascend.
        VideoTruncatedError: After the last frame that could be had; the video ends before the others.
        VideoDamagedError: After the last frame that could be had; something up to there did not decode.
        VideoUndecodableError: Not one frame of the video decodes.
        VideoError: As for `probe`.
    """
    if any(earlier.index >= later.index for earlier, later in zip(positions, positions[1:], strict=False)):
        raise ValueError("Expected positions of ascending index")
    return _decoded(file, list(positions), max_pixels) if positions else iter(())


def _decoded(file: BinaryIO, positions: list[FramePosition], max_pixels: int | None) -> Iterator[Frame]:
    pending = list(positions)
    if all(position.pts is not None for position in positions):
        for may_seek in (True, False):
            with _opened(file, max_pixels) as video:
                for frame in _least_decoded(video, pending, may_seek=may_seek and positions[0].index > 0):
                    del pending[0]
                    yield frame
                if not pending:
                    return
                if not video.is_seek_lost:
                    break
    with _opened(file, max_pixels) as video:
        is_counted = positions[0].index == 0 or positions[0].pts is None
        num_missing = yield from _all_decoded(video, pending, is_counted=is_counted)
        _raise_broken(video, num_missing, len(positions))


def _least_decoded(video: _Video, positions: Sequence[FramePosition], *, may_seek: bool) -> Iterator[Frame]:
    """Yield the frames at `positions` while nothing is broken, decoding no more than they need."""
    wanted = {cast(int, position.pts): position for position in positions}
    unsent = sorted(wanted, reverse=True)
    due = list(reversed(positions))
    started = not (may_seek and video.seek(unsent[-1]))
    waiting: list[Packet[VideoStream]] = []
    waiting_bytes = 0
    for packet in video.packets():
        frames: list[VideoFrame] = []
        is_wanted = packet.pts in wanted and not packet.is_discard
        if (waiting or not started) and video.can_start(packet, unsent[-1]):
            frames = video.restart() if started else []
            waiting, waiting_bytes, started = [], 0, True
        if not started:
            if is_wanted:
                video.is_seek_lost = True
                return
            continue
        waiting.append(packet)
        waiting_bytes += packet.size
        if is_wanted or waiting_bytes > _MAX_WAITING_BYTES:
            for earlier in waiting:
                frames += video.decode(earlier, is_wanted=earlier is packet and is_wanted)
            waiting, waiting_bytes = [], 0
        if is_wanted:
            unsent.remove(cast(int, packet.pts))
            if not unsent:
                frames += video.decode(None)
        yield from _matched(video, frames, due)
        if video.is_broken or not due or not unsent:
            return


def _matched(video: _Video, frames: Iterable[VideoFrame], due: list[FramePosition]) -> Iterator[Frame]:
    """Yield those of `frames` that are next in `due`, and take them off it."""
    for frame in frames:
        if video.is_broken:
            return
        if due and frame.pts == due[-1].pts:
            position = due.pop()
            yield Frame(position.index, position.time_s, video.rgb(frame))


def _all_decoded(
    video: _Video, positions: Sequence[FramePosition], *, is_counted: bool
) -> Generator[Frame, None, int]:
    """Yield the frames at `positions`, decoding everything; return how many of them are missing."""
    due = list(reversed(positions))
    num_missing = 0
    if not is_counted:
        video.seek(cast(int, due[-1].pts))
    for index, frame in enumerate(video.frames()):
        at = index if is_counted else frame.pts
        while due and not is_counted and at is not None and cast(int, due[-1].pts) < at:
            del due[-1]
            num_missing += 1
        if due and at == (due[-1].index if is_counted else due[-1].pts):
            position = due.pop()
            yield Frame(position.index, position.time_s, video.rgb(frame))
        if not due:
            break
    return num_missing + len(due)


def _raise_broken(video: _Video, num_missing: int, num_wanted: int) -> None: ...


def _frame_index(pts: Sequence[int | None], video: _Video, packets: Sequence[PacketFacts], *, is_exact: bool, fault: VideoError | None) -> FrameIndex:
    ...
