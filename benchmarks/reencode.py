"""Copies of clips and of face crops as H.264 leaves them: libx264 at a constant rate factor."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

_OPTIONS = {"preset": "veryfast", "threads": "2"}


def copy_of(clip: Path, folder: Path, crf: int, *, longest_s: float = 8.0) -> Path:
    """Return a copy of the first seconds of a clip, made if it is not there: yuv420p, in mp4, without sound."""
    target = folder / f"crf{crf}" / clip.with_suffix(".mp4").name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".part")
    with av.open(str(clip)) as source, av.open(str(beside), "w", format="mp4") as output:
        video = source.streams.video[0]
        rate = video.average_rate or 25
        stream = None
        for count, frame in enumerate(source.decode(video)):
            if count / float(rate) > longest_s:
                break
            if stream is None:
                stream = output.add_stream("libx264", rate=rate, options={"crf": str(crf), **_OPTIONS})
                stream.width, stream.height = frame.width // 2 * 2, frame.height // 2 * 2
                stream.pix_fmt = "yuv420p"
            again = frame.reformat(stream.width, stream.height, "yuv420p")
            again.pts, again.time_base = count, 1 / rate
            output.mux(stream.encode(again))
        if stream is not None:
            output.mux(stream.encode(None))
    os.replace(beside, target)
    return target


def crops_at(crops: Sequence[npt.NDArray[np.uint8]], crf: int) -> list[npt.NDArray[np.uint8]]:
    """Return square RGB crops of one size after H.264, each a picture of its own (no motion between people)."""
    file = io.BytesIO()
    side = crops[0].shape[0]
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": str(crf), "g": "1", **_OPTIONS})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for crop in crops:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(crop, format="rgb24")))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as source:
        return [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
