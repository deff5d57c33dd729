"""What the bits of a packet say of its frames, without decoding them."""

from __future__ import annotations

ONE_FRAME_A_PACKET = frozenset(
    "av1 cfhd dnxhd ffv1 ffvhuff flv1 h263 h264 hevc huffyuv jpeg2000 mjpeg mpeg1video mpeg2video mpeg4 msmpeg4v1 "
    "msmpeg4v2 msmpeg4v3 png prores rawvideo utvideo vp8 vp9 wmv1 wmv2".split()
)
"""Codecs of which every packet that shows a frame gives exactly one frame with the packet's own timestamp."""

_PREDICTING = frozenset(
    "av1 ffv1 flv1 h263 h264 hevc mpeg1video mpeg2video mpeg4 msmpeg4v1 msmpeg4v2 msmpeg4v3 vp8 vp9 wmv1 wmv2".split()
)
_MIN_CODED_VOP_BYTES = 8
_H264_IDR, _H264_SEI = 5, 6
_H264_SEI_RECOVERY_POINT = 6
_HEVC_SLICES, _HEVC_IRAP = range(32), range(16, 24)
_AV1_SEQUENCE_HEADER, _AV1_FRAMES = 1, (3, 6)
_AV1_SHOWN_KEY_FRAME = 0x10
_MPEG_INTRA, _MPEG4_INTRA = 1, 0
_H263_EXTENDED = 7


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
    return 1 if _vp9_bits(payload) & 0x0A else 0  # shows an existing frame, or this one


def _vp9_bits(payload: bytes | memoryview) -> int:
    """Return show_existing_frame, frame_type (0: key) and show_frame as the bits 8, 4 and 2."""
    is_profile_3 = payload[0] & 0x30 == 0x30
    return payload[0] << 1 & 0x0E if is_profile_3 else payload[0] & 0x0E


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


def starts_decoding(codec: str, packet: memoryview, length_size: int) -> bool:
    """Return whether frames shown from this packet on, flagged as a keyframe, decode exactly without anything before.

    Containers flag keyframes wrongly at times, so the packets of codecs whose frames refer to others are looked into: an
    H.264 IDR, or a recovery point that recovers at once and exactly (ITU-T H.264 D.2.8); an HEVC IRAP (H.265 7.4.2.2); an
    AV1 key frame that is shown (AV1 specification 5.9.2); a picture of the older ones that refers to none. The other codecs
    of `ONE_FRAME_A_PACKET` have no frame that refers to another.
    """
    payload = bytes(packet) if codec in _PREDICTING else b""
    if codec == "h264":
        return any(_is_h264_entry(unit) for unit in _nal_units(payload, length_size))
    if codec == "hevc":
        kinds = (unit[0] >> 1 & 0x3F for unit in _nal_units(payload, length_size))
        return next((kind in _HEVC_IRAP for kind in kinds if kind in _HEVC_SLICES), False)
    if codec == "av1":
        return _is_av1_entry(payload)
    if codec == "vp8":
        return not payload[0] & 1
    if codec == "vp9":
        return not _vp9_bits(payload) & 0x0C  # neither shows an existing frame nor is an inter frame
    if codec in ("mpeg1video", "mpeg2video"):
        at = payload.find(b"\x00\x00\x01\x00")
        return at >= 0 and len(payload) > at + 5 and payload[at + 5] >> 3 & 7 == _MPEG_INTRA
    if codec == "mpeg4":
        at = payload.find(b"\x00\x00\x01\xb6")
        return at >= 0 and len(payload) > at + 4 and payload[at + 4] >> 6 == _MPEG4_INTRA
    return codec not in _PREDICTING or _is_intra(codec, payload)


def _is_intra(codec: str, payload: bytes) -> bool:
    """Return whether a picture of H.263 and its kin, or of FFV1, refers to no other.

    Sources: ITU-T H.263 5.1.3 and 5.1.4; SWF file format specification, "Sorenson H.263"; RFC 9043 3.8.1 (FFV1: the first
    range-coded bit); FFmpeg's decoders for Microsoft's codecs, of which nothing else is published.
    """
    if codec == "ffv1":
        return payload[:2] >= b"\x7f\x80"
    if codec == "wmv2":
        return _bits(payload, 0, 1) == 0
    if codec == "h263":
        if _bits(payload, 35, 3) != _H263_EXTENDED:
            return _bits(payload, 38, 1) == 0
        return _bits(payload, 59 if _bits(payload, 38, 3) == 1 else 41, 3) == 0
    if codec == "flv1":
        own_size_bits = {0: 16, 1: 32}.get(_bits(payload, 30, 3), 0)
        return _bits(payload, 33 + own_size_bits, 2) == 0
    return _bits(payload, 37 if codec == "msmpeg4v1" else 0, 2) == 0


def _bits(payload: bytes, at: int, count: int) -> int:
    r"""Return the number in `count` bits from bit `at` on, -1 where the payload ends before.

    >>> _bits(b"\x12\x34", 4, 8)
    35
    """
    end = at + count
    if end > 8 * len(payload):
        return -1
    last = (end + 7) // 8
    return int.from_bytes(payload[at // 8 : last], "big") >> 8 * last - end & (1 << count) - 1


def _is_h264_entry(unit: bytes) -> bool:
    kind = unit[0] & 0x1F
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
    return [unit for unit in units if unit]


def _is_av1_entry(payload: bytes) -> bool:
    has_sequence_header = False
    at = 0
    while at < len(payload):
        kind, has_extension, has_size = payload[at] >> 3 & 15, payload[at] >> 2 & 1, payload[at] >> 1 & 1
        at += 1 + has_extension
        size, at = _leb128(payload, at) if has_size else (len(payload) - at, at)
        has_sequence_header = has_sequence_header or kind == _AV1_SEQUENCE_HEADER
        if kind in _AV1_FRAMES:
            return has_sequence_header and at < len(payload) and payload[at] & 0xF0 == _AV1_SHOWN_KEY_FRAME
        at += size
    return False


def _leb128(payload: bytes, at: int) -> tuple[int, int]:
    """Return the number written at `at`, and where it ends."""
    value = 0
    for i, byte in enumerate(payload[at : at + 8]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    return value, len(payload)
