"""Small videos for tests, encoded with PyAV from frames made here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import count
from math import cos, sin, tau
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.packet import Packet

from dfd.commands.demo_archive import FACE_XY, Frame, portrait

OnPacket = Callable[[int, Packet], Packet | None]


def astronaut_frames(
    count: int, width: int = 320, height: int = 240, *, zoom: float = 1.0, period: int = 50
) -> list[Frame]:
    """Return `count` frames, uint8 (height, width, 3) RGB, in which a face moves along an ellipse.

    Args:
        count: Frames.
        width: Of a frame, pixels.
        height: Of a frame, pixels.
        zoom: Frame pixels for each pixel of the portrait, raised where the portrait would not fill the frame.
        period: Frames for one turn of the ellipse.
    """
    image = portrait()
    zoom = max(zoom, width / image.shape[1], height / image.shape[0])
    half_x, half_y = width / zoom / 2, height / zoom / 2
    frames = []
    for i in range(count):
        x = FACE_XY[0] + 0.25 * half_x * sin(tau * i / period)
        y = FACE_XY[1] + 0.15 * half_y * cos(tau * i / period)
        left = min(max(x - half_x, 0.0), image.shape[1] - 2 * half_x)
        top = min(max(y - half_y, 0.0), image.shape[0] - 2 * half_y)
        matrix = np.array([[zoom, 0.0, -zoom * left], [0.0, zoom, -zoom * top]])
        frames.append(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))
    return frames


def faceless_frames(count: int, width: int = 320, height: int = 240, *, seed: int = 0) -> list[Frame]:
    """Return `count` frames, uint8 (height, width, 3) RGB: a moving gradient under faint noise, no face."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, width)[None, :, None] * np.array([1.0, 0.7, 0.4])
    base = np.broadcast_to(ramp, (height, width, 3))
    noise = rng.normal(0, 4, (height, width, 3))
    return [np.clip(np.roll(base, 3 * i, axis=1) + noise, 0, 255).astype(np.uint8) for i in range(count)]


def write_clip(
    path: Path | str,
    frames: Iterable[Frame],
    *,
    codec: str = "libx264",
    fps: int | Fraction = 25,
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    context: Mapping[str, Any] | None = None,
    container_format: str | None = None,
    container_options: Mapping[str, str] | None = None,
    pts: Sequence[int] | None = None,
    rotation: tuple[Any, ...] | None = None,
    on_packet: OnPacket | None = None,
) -> Path:
    """Return `path`, to which `frames` were encoded.

    Args:
        path: The file; its ending names the container if `container_format` does not.
        frames: uint8 (height, width, 3), RGB; sides even for 4:2:0 formats.
        codec: An FFmpeg encoder.
        fps: Frames a second.
        pixel_format: Of the encoded video.
        options: The encoder's options, such as `{"crf": "18", "g": "10"}`.
        context: Attributes of the codec context, such as `{"gop_size": 12, "time_base": Fraction(1, 1000)}`.
        container_format: An FFmpeg muxer, such as `matroska`.
        container_options: The muxer's options, such as `{"movflags": "faststart"}`.
        pts: The frames' timestamps, in the context's time base, else in frames.
        rotation: Arguments of `set_display_rotation`.
        on_packet: Called with each packet's number and the packet; returns what is written, or None.
    """
    with av.open(str(path), "w", format=container_format, options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=fps, options={"threads": "1", **(options or {})})
        stream.pix_fmt = pixel_format
        for name, value in (context or {}).items():
            setattr(stream.codec_context, name, value)
        if rotation is not None:
            stream.set_display_rotation(*rotation)
        numbers = count()
        for i, frame in enumerate([*frames, None]):
            if i == 0:
                stream.height, stream.width = frame.shape[:2]
            picture = None
            if frame is not None:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                picture = picture.reformat(format=pixel_format)
                picture.pts = i if pts is None else pts[i]
                picture.time_base = (context or {}).get("time_base") or 1 / Fraction(fps)
            for packet in stream.encode(picture):
                written = packet if on_packet is None else on_packet(next(numbers), packet)
                if written is not None:
                    container.mux(written)
    return Path(path)


def truncate(path: Path, keep: float) -> Path:
    """Return `path`, cut to its first `keep` of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path
