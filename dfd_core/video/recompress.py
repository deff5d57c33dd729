"""Pictures as they look after H.264: encoded and decoded again in memory."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_TIME_BASE = Fraction(1, 25)


def recompressed(frames: Sequence[Pixels], *, crf: int) -> list[Pixels]:
    """Return the frames of a short H.264 video after one encoding by x264 and one decoding.

    Args:
        frames: Each (height, width, 3) uint8 RGB, all of one size. Odd sizes are padded and cut again.
        crf: x264's constant rate factor, 0 to 51; higher is coarser.

    Returns:
        As many frames of the same size.
    """
    height, width = frames[0].shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = width + width % 2, height + height % 2
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = _TIME_BASE
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), "preset": "veryfast", "bframes": "0"}
    packets = []
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(_even(frame), format="rgb24")
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoded = [picture for packet in [*packets, None] for picture in decoder.decode(packet)]
    pictures = [np.asarray(picture.to_ndarray(format="rgb24"), np.uint8) for picture in decoded]
    return [picture[:height, :width] for picture in pictures]


def _even(frame: Pixels) -> Pixels:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
