"""Which frames a video holds and where decoding can start, read from its packets: nothing is decoded here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dfd_core.errors import VideoError

ONE_FRAME_A_PACKET = frozenset(
    "av1 cfhd dnxhd ffv1 ffvhuff flv1 h263 h264 hevc huffyuv jpeg2000 mjpeg mpeg1video mpeg2video mpeg4 msmpeg4v1 "
    "msmpeg4v2 msmpeg4v3 png prores rawvideo utvideo vp8 vp9 wmv1 wmv2".split()
)
"""Codecs of which every packet that shows a frame gives exactly one frame with the packet's own timestamp."""

_MIN_CODED_VOP_BYTES = 8
_H264_IDR, _H264_SEI = 5, 6
_H264_SEI_RECOVERY_POINT = 6
_HEVC_SLICES, _HEVC_IRAP = range(32), range(16, 24)


@dataclass(frozen=True, slots=True)
class FramePosition:
    """Where one wanted frame is."""

    index: int
    """Position in the sequence of frames that a full decode returns, from 0."""
    pts: int | None
    """Presentation timestamp in the stream's time base; None: found by decoding and counting from the start."""
    time_s: float
    """Seconds since the video's first frame."""


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
    """What of the file could not be read: `VideoTruncatedError` or `VideoDamagedError`; None for a whole file."""

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
        times_s = self.times_s
        positions = []
        for index in indices:
            if not 0 <= index < len(self.pts):
                raise ValueError(f"Expected frame indices from 0 to {len(self.pts) - 1}. Received: {index}")
            pts = int(self.pts[index]) if self.is_exact else None
            positions.append(FramePosition(int(index), pts, float(times_s[index])))
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


def num_frames_shown(codec: str, payload: memoryview) -> int:
    """Return how many frames a packet shows, 0 for a hidden reference frame, -1 if that cannot be told.

    Sources: RFC 6386 9.1 (VP8), VP9 bitstream specification 6.2 and annex B, ISO/IEC 14496-2 6.2.5 (MPEG-4).
    """
    if codec not in ONE_FRAME_A_PACKET:
        return -1
    if codec == "vp8":
        return payload[0] >> 4 & 1
    if codec == "vp9":
        return _num_vp9_frames_shown(payload)
    if codec == "mpeg4":
        return _num_mpeg4_frames_shown(bytes(payload))
    return 1


def _num_vp9_frames_shown(payload: memoryview) -> int:
    marker = payload[-1]
    index_size = 2 + ((marker >> 3 & 3) + 1) * ((marker & 7) + 1)
    if marker & 0xE0 == 0xC0 and len(payload) >= index_size and payload[-index_size] == marker:
        return 1  # a superframe shows its last frame
    is_profile_3 = payload[0] & 0x30 == 0x30
    bits = payload[0] & 0x0F if not is_profile_3 else (payload[0] & 0x07) << 1
    shows_existing_frame, shows_frame = bits & 0x08, bits & 0x02
    return 1 if shows_existing_frame or shows_frame else 0


def _num_mpeg4_frames_shown(payload: bytes) -> int:
    start = payload.find(b"\x00\x00\x01\xb6")
    is_single = start >= 0 and payload.find(b"\x00\x00\x01\xb6", start + 4) < 0
    return 1 if is_single and len(payload) - start - 4 >= _MIN_CODED_VOP_BYTES else -1


def nal_length_size(codec: str, extradata: bytes | None) -> int:
    """Return the bytes of each NAL unit's length in H.264 or HEVC packets, 0 where start codes divide them."""
    if codec == "h264" and extradata and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if (
        codec == "hevc"
        and extradata
        and len(extradata) > 22
        and (extradata[0] or extradata[1] or extradata[2] > 1)
    ):
        return (extradata[21] & 3) + 1
    return 0


def starts_decoding(codec: str, payload: Any, length_size: int) -> bool:
    """Return whether frames shown from this key packet on decode exactly without anything before it.

    Containers flag keyframes wrongly at times, so H.264 and HEVC packets are looked into: an IDR or IRAP picture, or
    an H.264 recovery point that recovers at once and exactly (ITU-T H.264 D.2.8, H.265 7.4.2.2).
    """
    if codec == "h264":
        return any(_is_h264_entry(unit) for unit in _nal_units(bytes(payload), length_size))
    if codec == "hevc":
        kinds = (unit[0] >> 1 & 0x3F for unit in _nal_units(bytes(payload), length_size) if unit)
        return next((kind in _HEVC_IRAP for kind in kinds if kind in _HEVC_SLICES), False)
    return True


def _is_h264_entry(unit: bytes) -> bool:
    kind = unit[0] & 0x1F if unit else 0
    if kind == _H264_SEI:
        return _is_exact_recovery_point(unit[1:])
    return kind == _H264_IDR


def _is_exact_recovery_point(messages: bytes) -> bool:
    at = 0
    while at + 2 < len(messages):
        kind, size = messages[at], messages[at + 1]
        if kind == 0xFF or size == 0xFF:
            return False  # long messages come after, not before; not telling only costs speed
        if kind == _H264_SEI_RECOVERY_POINT:
            return messages[at + 2] & 0xE0 == 0xC0  # 0 frames to recover, exact match, link not broken
        at += 2 + size
    return False


def _nal_units(payload: bytes, length_size: int) -> list[bytes]:
    if length_size == 0:
        return [unit for unit in payload.split(b"\x00\x00\x01")[1:] if unit]
    units = []
    at = 0
    while at + length_size < len(payload):
        size = int.from_bytes(payload[at : at + length_size], "big")
        at += length_size
        units.append(payload[at : at + size])
        at += size
    return units
