"""What frames are held to: OpenCV's loop, and a plain decode with PyAV."""

import io
import random
import zlib

import av
import cv2
import numpy as np

from dfd_core.video import reader as video


def opencv_frames(path, indices=None, *, threads=1):
    """Return {index: checksum of the RGB frame} and how many frames OpenCV's loop reads."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
    frames, count = {}, 0
    while capture.grab():
        if indices is None or count in indices:
            frames[count] = checksum(capture.retrieve()[1][:, :, ::-1])
        count += 1
    return frames, count


def opencv_fps(path):
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS)


def pyav_frames(path):
    """Return {index: checksum} of a plain decode, for what OpenCV cannot read."""
    with av.open(str(path)) as container:
        frames = (
            frame.to_ndarray(format="bgr24", interpolation="BICUBIC") for frame in container.decode(video=0)
        )
        return {index: checksum(bgr[:, :, ::-1]) for index, bgr in enumerate(frames)}


def checksum(rgb):
    return rgb.shape, zlib.crc32(np.ascontiguousarray(rgb))


def decoded(file, index, indices):
    """Return {index: checksum} of what the code under test decodes."""
    frames = {}
    for frame in video.decode_frames(file, index.positions(indices)):
        assert frame.rgb.dtype == np.uint8
        assert frame.rgb.flags.c_contiguous
        assert frame.index not in frames
        frames[frame.index] = checksum(frame.rgb)
    return frames


def choices(count, stride):
    """Return what a user may ask for of `count` frames: everything, strides, a middle, an end, a few."""
    start = count // 3
    return (
        range(count),
        range(0, count, stride),
        range(0, count, 7),
        range(start, min(count, start + 20), 3),
        range(count - count // 4, count),
        [count - 1],
        sorted(random.Random(count).sample(range(count), min(count, 4))),
    )


def probed(path):
    with path.open("rb") as file:
        return video.probe(file)


def indexed(content):
    return video.index_frames(io.BytesIO(content))


def pyav_keyframes(path):
    """Return the indices of the frames that a plain decode of everything calls key frames."""
    with av.open(str(path)) as container:
        return [index for index, frame in enumerate(container.decode(video=0)) if frame.key_frame]
