"""What exact frames cost: the chosen frames of the same clips, had in four ways, clip by clip in turn.

    python benchmarks/bench_decode.py ../shared/data/archive --repeats 3

read    OpenCV `read()` of every frame: the seed's loop
grab    OpenCV `grab()` of every frame, `retrieve()` of the chosen ones
nonref  PyAV: a pass over the packets for their timestamps, then every packet decoded with `skip_frame = NONREF` unless it
        is a chosen one, until the last: the fastest exact way that a script would write
job     what a worker does: `probe`, `index_frames`, `decode_frames`

All on one thread. Frames of `job` must be bit-identical to those of `read` wherever OpenCV decodes 8-bit video. Prints one
table of CPU seconds; the ratios are medians over the repeats.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "threads;1")

import av
import click
import cv2
import numpy as np
import numpy.typing as npt

from dfd_core.config import Sampling
from dfd_core.sources.videos import read_videos
from dfd_core.stages import plan
from dfd_core.video import reader as video

DEFAULT = Path("../shared/data/archive") if Path("../shared/data/archive").is_dir() else Path("demo/archive")

Frames = dict[int, npt.NDArray[np.uint8]]


def read(path: str) -> Frames:
    """Return the chosen frames, by index, RGB."""
    capture = cv2.VideoCapture(path)
    stride, index, found = int(capture.get(cv2.CAP_PROP_FPS)) + 1, 0, {}
    while True:
        ok, bgr = capture.read()
        if not ok:
            return found
        if index % stride == 0:
            found[index] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        index += 1


def grab(path: str) -> Frames:
    """Return the same, converting only the chosen ones."""
    capture = cv2.VideoCapture(path)
    stride, index, found = int(capture.get(cv2.CAP_PROP_FPS)) + 1, 0, {}
    while capture.grab():
        if index % stride == 0:
            _, bgr = capture.retrieve()
            found[index] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        index += 1
    return found


def nonref(path: str) -> Frames:
    """Return the same, leaving out what nothing refers to."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stride = int(stream.average_rate) + 1
        pts = sorted(p.pts for p in container.demux(stream) if p.pts is not None and not p.is_discard)
    chosen = {value: index for index, value in enumerate(pts) if index % stride == 0}
    found: Frames = {}
    with av.open(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count = 1
        for packet in container.demux(stream):
            context.skip_frame = "DEFAULT" if packet.pts in chosen else "NONREF"
            for frame in context.decode(packet if packet.size else None):
                if frame.pts in chosen:
                    found[chosen[frame.pts]] = frame.to_ndarray(format="rgb24")
            if len(found) == len(chosen):
                break
    return found


def job(path: str) -> Frames:
    """Return the same as the scoring job has them: upright, converted as OpenCV converts."""
    with open(path, "rb", buffering=0) as file:
        facts = video.probe(file)
        index = video.index_frames(file)
        chosen = plan.sampled_frames(Sampling(), index.times_s, fps=facts.fps, keyframes=index.keyframes)
        return {
            frame.index: frame.rgb for frame in video.decode_frames(file, index.positions(chosen.tolist()))
        }


WAYS: tuple[Callable[[str], Frames], ...] = (read, grab, nonref, job)


@click.command()
@click.argument("source", default=str(DEFAULT))
@click.option("--clips", default=45, show_default=True, help="At most so many clips, evenly taken.")
@click.option("--repeats", default=3, show_default=True)
def main(source: str, clips: int, repeats: int) -> None:
    """Decode the chosen frames of the clips of SOURCE."""
    cv2.setNumThreads(1)
    paths = read_videos(source).table.column("uri").to_pylist()
    paths = paths[:: max(1, len(paths) // clips)][:clips]
    seconds = {way.__name__: [0.0] * repeats for way in WAYS}
    num_frames = num_differing = 0
    for repeat in range(repeats):
        for path in paths:
            found = {}
            for way in WAYS:
                began_s = time.process_time()
                found[way.__name__] = way(path)
                seconds[way.__name__][repeat] += time.process_time() - began_s
            if repeat == 0:
                num_frames += len(found["read"])
                same = found["read"].keys() == found["job"].keys()
                num_differing += not same or any(
                    not np.array_equal(frame, found["job"][index]) for index, frame in found["read"].items()
                )
    print(f"{len(paths)} clips, {num_frames} frames, {repeats} repeats, one thread")
    print(f"clips whose frames differ between read and job: {num_differing}\n")
    print(f"{'way':<8} {'CPU s':>8} {'read / way':>11} {'way / nonref':>13}")
    for name, times in seconds.items():
        of_read = statistics.median(a / b for a, b in zip(seconds["read"], times, strict=True))
        of_nonref = statistics.median(b / a for a, b in zip(seconds["nonref"], times, strict=True))
        print(f"{name:<8} {statistics.median(times):>8.2f} {of_read:>11.2f} {of_nonref:>13.3f}")


if __name__ == "__main__":
    main()
