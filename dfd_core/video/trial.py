"""A video and a frame of our own, to see that everything is there."""

from __future__ import annotations

import io

import av
import numpy as np
import numpy.typing as npt

_SIDE_PX, _NUM_FRAMES, _FPS = 64, 3, 10


def trial_frame(number: int = 0) -> npt.NDArray[np.uint8]:
    """Return a frame of noise, (64, 64, 3) uint8 RGB."""
    return np.random.default_rng(number).integers(0, 256, (_SIDE_PX, _SIDE_PX, 3), np.uint8)


def trial_clip() -> bytes:
    """Return an MP4 of three frames of noise."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=_FPS)
        stream.width = stream.height = _SIDE_PX
        for number in range(_NUM_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(trial_frame(number), format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
