"""From a decoded frame to upright RGB, bit for bit as OpenCV does it."""

from __future__ import annotations

from collections.abc import Mapping
from math import atan2, degrees, hypot
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter

_KEPT_PRIMARIES = (
    ColorPrimaries.UNSPECIFIED,
    ColorPrimaries.BT709,
    ColorPrimaries.BT470M,
    ColorPrimaries.BT470BG,
    ColorPrimaries.SMPTE170M,
    ColorPrimaries.SMPTE240M,
)
_HDR_TRANSFERS = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_KNOWN_PRIMARIES, _KNOWN_TRANSFERS = frozenset(map(int, ColorPrimaries)), frozenset(map(int, ColorTrc))
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def turn_deg(frame: VideoFrame) -> int:
    """Return the clockwise turn that makes `frame` upright: 0, 90, 180 or 270. Other angles count as 0, as in OpenCV."""
    angle_deg = _rotation_deg(frame)
    return angle_deg if angle_deg in _TURNS else 0


def upright_rgb(
    frame: VideoFrame, reformatter: VideoReformatter, *, width: int, height: int
) -> npt.NDArray[np.uint8]:
    """Return `frame` as RGB, scaled to `width` x `height` pixels and then turned upright.

    swscale converts with OpenCV's settings, so that the bits are equal.

    Returns:
        (height, width, 3) uint8 RGB, C-contiguous; height and width are exchanged by a quarter turn.

    Raises:
        Exception: Whatever PyAV raises for a frame that cannot be converted.
    """
    primaries, transfer = _target_colors(frame)
    # swscale gives the same bits in both orders unless it scales, or rounds deeper video. OpenCV asks for BGR.
    is_plain = frame.format.components[0].bits == 8 and (frame.width, frame.height) == (width, height)
    order = "rgb24" if is_plain else "bgr24"
    pixels = reformatter.reformat(
        frame,
        width,
        height,
        order,
        interpolation=Interpolation.BICUBIC,
        dst_color_primaries=primaries,
        dst_color_trc=transfer,
        threads=1,
    ).to_ndarray()
    if order == "bgr24":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    turn = _TURNS.get(_rotation_deg(frame))
    return np.ascontiguousarray(pixels if turn is None else cv2.rotate(pixels, turn), np.uint8)


def _rotation_deg(frame: VideoFrame) -> int:
    """Return the clockwise turn that makes `frame` upright, in whole degrees from 0 to 359, as OpenCV reads it."""
    side_data = cast("Mapping[str, Any]", frame.side_data).get("DISPLAYMATRIX")
    if side_data is None:
        return 0
    matrix = np.frombuffer(side_data, np.int32)
    scales = hypot(matrix[0], matrix[3]), hypot(matrix[1], matrix[4])
    if 0.0 in scales:
        return 0
    return round(degrees(atan2(matrix[1] / scales[1], matrix[0] / scales[0]))) % 360


def _target_colors(frame: VideoFrame) -> tuple[ColorPrimaries | None, ColorTrc | None]:
    """Return the primaries and the transfer to convert to: BT.709 for wide gamuts and HDR, None to keep the frame's.

    OpenCV lets swscale choose; PyAV does not, so this repeats swscale's rule.
    """
    if frame.color_primaries not in _KNOWN_PRIMARIES or frame.color_trc not in _KNOWN_TRANSFERS:
        return None, None
    primaries, transfer = ColorPrimaries(frame.color_primaries), ColorTrc(frame.color_trc)
    is_wide, is_hdr = primaries not in _KEPT_PRIMARIES, transfer in _HDR_TRANSFERS
    if not is_wide and not is_hdr:
        return None, None
    is_unknown = transfer == ColorTrc.UNSPECIFIED
    return (
        ColorPrimaries.BT709 if is_wide or primaries == ColorPrimaries.UNSPECIFIED else primaries,
        ColorTrc.BT709 if is_hdr or is_unknown else transfer,
    )
