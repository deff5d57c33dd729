"""Every frame of a video, found from one pass over its packets, or by decoding where packets cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import BinaryIO

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfd_core.errors import VideoError, VideoUndecodableError
from dfd_core.video.bits import num_frames_shown
from dfd_core.video.completeness import container_fault, undecodable
from dfd_core.video.container import opened_video
from dfd_core.video.facts import LONGEST_S
from dfd_core.video.index import FrameIndex, PacketFacts, keyframes_of, pts_in_order
from dfd_core.video.opened import OpenedVideo

NUM_HEAD_PACKETS = 100
"""How many of the first packets are tried for a first frame."""
_ASSUMED_FPS = 25


def index_frames(file: BinaryIO, *, max_pixels: int | None = None) -> FrameIndex:
    """Return every frame that a full decode of `file` returns, from one pass over its packets.

    Packets cannot tell where timestamps are missing or doubled, pictures are interlaced, packets do not match frames, or
    the beginning is damaged. All frames are then decoded once, `is_exact` is False, and the keyframes are those that the
    decoder names.

    Raises:
        VideoUndecodableError: Not one frame of the file decodes.
        VideoError: As for `reader.probe`.
    """
    with opened_video(file, max_pixels) as video:
        reading = _PacketReading(video)
        packets = list(reading.facts())
        fault = container_fault(video, len(packets), end_s=reading.end_s)
    pts = pts_in_order(packets)
    if pts and reading.begins_well:
        end = max(packet.pts + packet.duration for packet in packets if packet.pts is not None)
        index = _frame_index(pts, end, video.time_base, is_exact=True, fault=fault)
        return replace(index, keyframes=keyframes_of(packets, pts))
    return _counted_index(file, max_pixels, fault)


class _PacketReading:
    """One pass over a video's packets, of which only the first frame is decoded."""

    def __init__(self, video: OpenedVideo) -> None:
        self._video = video
        self._first_frame: VideoFrame | None = None
        self._first_packet_pts: int | None = None
        self.end_s = 0.0
        """Where the last packet of any stream ends; 0.0 unless the header's duration was measured."""

    def facts(self) -> Iterator[PacketFacts]:
        """Yield what each packet of the video stream says of its frames."""
        video = self._video
        others = [stream for stream in video.container.streams if stream.index != video.stream.index]
        num_packets = 0
        for packet in video.packets(*others if video.is_timed else ()):
            if video.is_timed and packet.pts is not None:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self.end_s = max(self.end_s, end_s)
            if packet.stream_index != video.stream.index:
                continue
            if packet.has_sidedata("encryption_info"):
                raise VideoUndecodableError("The video is encrypted")
            if self._first_frame is None and num_packets < NUM_HEAD_PACKETS:
                self._first_frame, self._first_packet_pts = video.frame_shown_first(packet), packet.pts
            num_packets += 1
            yield self._facts_of(packet)

    def _facts_of(self, packet: Packet[VideoStream]) -> PacketFacts:
        shown = 0 if packet.is_discard else num_frames_shown(self._video.codec, memoryview(packet))
        return PacketFacts(
            pts=packet.pts,
            duration=packet.duration or 0,
            is_keyframe=packet.is_keyframe,
            num_frames=shown,
            starts_decoding=packet.pts is not None and self._video.can_start(packet, packet.pts),
        )

    @property
    def begins_well(self) -> bool:
        """Whether the first frame is whole, not interlaced, and shown when its packet says."""
        first = self._first_frame
        is_whole = first is not None and not first.interlaced_frame and first.pts == self._first_packet_pts
        return is_whole and not self._video.is_broken


def _counted_index(file: BinaryIO, max_pixels: int | None, fault: VideoError | None) -> FrameIndex:
    """Return the index of a video of which every frame must be decoded to know its frames."""
    with opened_video(file, max_pixels) as video:
        frames = [(frame.pts, frame.duration, frame.key_frame) for frame in video.frames(video.packets())]
        if not frames:
            raise undecodable()
        pts: Sequence[int] = [pts for pts, *_ in frames if pts is not None]
        end, time_base = pts[-1] + frames[-1][1] if pts else 0, video.time_base
        if len(pts) < len(frames) or any(earlier > later for earlier, later in pairwise(pts)):
            pts, end = range(len(frames)), len(frames)
            time_base = 1 / Fraction(video.stream.average_rate or _ASSUMED_FPS)
        index = _frame_index(pts, end, time_base, is_exact=False, fault=fault)
        return replace(index, keyframes=np.flatnonzero([is_key for *_, is_key in frames]).astype(np.int64))


def _frame_index(
    pts: Sequence[int], end: int, time_base: Fraction, *, is_exact: bool, fault: VideoError | None
) -> FrameIndex:
    if end <= pts[-1] and len(pts) > 1:  # the last frame's duration is unknown: as long as the average
        end = pts[-1] + round((pts[-1] - pts[0]) / (len(pts) - 1))
    duration_s = min(max(0.0, float((end - pts[0]) * time_base)), LONGEST_S)
    return FrameIndex(np.array(pts, np.int64), time_base, is_exact, duration_s, fault)
