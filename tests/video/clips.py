"""Clips of numbered, moving pictures, and how each of them is encoded."""

import contextlib
import os
from fractions import Fraction

import cv2
import numpy as np

from tests.clips import write_clip

NUM_FRAMES = 60


WIDTH, HEIGHT = 128, 96


def picture(i, width=WIDTH, height=HEIGHT):
    """Return frame `i`: (height, width, 3) uint8, coloured, moving, slightly noisy, with its number on it."""
    rng = np.random.default_rng(1)
    base = cv2.resize(
        rng.integers(0, 256, (12, 16, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    image = np.ascontiguousarray(np.roll(base, (i * 3, i * 5), (0, 1)))
    cv2.putText(image, str(i), (8, height // 2), 0, 1.2, (255, 255, 255), 2)
    return cv2.add(image, np.random.default_rng(i).integers(0, 12, image.shape, dtype=np.uint8))


def almost_still(i, width=WIDTH, height=HEIGHT):
    """Return frame `i` of a still picture across which a strip moves."""
    image = picture(0, width, height)
    left = (10 + i) % 60
    image[20:60, left : left + 30] = picture(i // 4, width, height)[20:60, :30]
    return image


@contextlib.contextmanager
def ordinary_priority():
    """SVT-AV1 makes whoever calls it as root a real-time process, before which every other waits. Undo that."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def encode(path, codec, *, draw=picture, num_frames=NUM_FRAMES, size=(WIDTH, HEIGHT), **how):
    """Return `path`, to which `num_frames` pictures of `draw(i, width, height)` were encoded as `write_clip` does it."""
    return write_clip(path, [draw(i, *size) for i in range(num_frames)], codec=codec, **how)


def x264(parameters, **more):
    return {"preset": "veryfast", "x264-params": parameters, **more}


def x265(parameters):
    return {"preset": "ultrafast", "x265-params": f"log-level=none:{parameters}"}


def flag_as_keyframe(_, packet):
    packet.is_keyframe = True
    return packet


def without_first(count):
    return lambda k, packet: None if k < count else packet


CLOSED = x264("keyint=15:bframes=3:b-pyramid=normal:scenecut=0")


OPEN = x264("keyint=16:min-keyint=16:bframes=3:b-pyramid=normal:b-adapt=0:open-gop=1:scenecut=0:ref=4")


OPEN_HEVC = x265("keyint=15:min-keyint=15:bframes=4:open-gop=1:scenecut=0")


ALTREF = {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8", "deadline": "good"}


UNEVEN_MS = np.cumsum(np.random.default_rng(3).integers(10, 120, NUM_FRAMES)).tolist()


CLIPS = {
    "closed.mp4": ("libx264", {"options": CLOSED}, True),
    "open.mp4": ("libx264", {"options": OPEN}, True),
    "open.mkv": ("libx264", {"options": OPEN}, True),
    "open.ts": ("libx264", {"options": OPEN}, True),
    "open.flv": ("libx264", {"options": OPEN}, True),
    "open.avi": ("libx264", {"options": OPEN}, False),  # no timestamps on B-frames
    "open.h264": ("libx264", {"options": OPEN}, False),
    "intra_refresh.mp4": ("libx264", {"options": x264("keyint=15:intra-refresh=1:bframes=2")}, True),
    "intra_only.mp4": ("libx264", {"options": x264("keyint=1")}, True),
    "444.mp4": ("libx264", {"options": CLOSED, "pixel_format": "yuv444p"}, True),
    "10_bit.mp4": ("libx264", {"options": CLOSED, "pixel_format": "yuv420p10le"}, True),
    "fragments.mp4": (
        "libx264",
        {"options": CLOSED, "container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}},
        True,
    ),
    "open_hevc.mp4": ("libx265", {"options": OPEN_HEVC}, True),
    "open_hevc.mkv": ("libx265", {"options": OPEN_HEVC}, True),
    "open_hevc.ts": ("libx265", {"options": OPEN_HEVC}, True),
    "altref_vp8.webm": ("libvpx", {"options": ALTREF, "context": {"gop_size": 20}}, True),
    "altref_vp9.webm": ("libvpx-vp9", {"options": ALTREF, "context": {"gop_size": 20}}, True),
    "vp9.ivf": ("libvpx-vp9", {"options": ALTREF, "context": {"gop_size": 20}}, True),
    "b_frames.avi": ("mpeg4", {"context": {"max_b_frames": 2, "gop_size": 12}}, False),
    "b_frames_mpeg4.mp4": ("mpeg4", {"context": {"max_b_frames": 2, "gop_size": 12}}, True),
    "mpeg2.ts": ("mpeg2video", {"context": {"max_b_frames": 2, "gop_size": 12}}, True),
    "mpeg2.mpg": ("mpeg2video", {"context": {"max_b_frames": 2, "gop_size": 12}}, False),
    "mpeg2.mkv": ("mpeg2video", {"context": {"max_b_frames": 2, "gop_size": 12}}, True),
    "mjpeg.avi": ("mjpeg", {"pixel_format": "yuvj420p"}, True),
    "odd_sides.mkv": ("ffv1", {"size": (127, 95), "num_frames": 12}, True),
    "wmv2.wmv": ("wmv2", {"context": {"gop_size": 12}}, True),
    "flv1.flv": ("flv", {"context": {"gop_size": 12}}, True),
    "variable_rate.mkv": (
        "libx264",
        {"options": OPEN, "context": {"time_base": Fraction(1, 1000)}, "pts": UNEVEN_MS},
        True,
    ),
    "variable_rate.mp4": (
        "libx264",
        {"options": OPEN, "context": {"time_base": Fraction(1, 1000)}, "pts": UNEVEN_MS},
        True,
    ),
    "late_start.mkv": ("libx264", {"options": CLOSED, "pts": range(125, 125 + NUM_FRAMES)}, True),
    "edit_list.mp4": (  # the first 23 frames lie before the edit: decoded, and not shown
        "libx264",
        {
            "options": CLOSED,
            "pts": range(-23, NUM_FRAMES - 23),
            "container_options": {"avoid_negative_ts": "disabled"},
        },
        True,
    ),
    "hidden_keyframe.mp4": (  # the only keyframe is not shown
        "libx264",
        {
            "options": x264("keyint=250:bframes=3:scenecut=0"),
            "pts": range(-23, NUM_FRAMES - 23),
            "container_options": {"avoid_negative_ts": "disabled"},
        },
        True,
    ),
    "edit_list_open.mp4": (
        "libx264",
        {
            "options": OPEN,
            "pts": range(-23, NUM_FRAMES - 23),
            "container_options": {"avoid_negative_ts": "disabled"},
        },
        True,
    ),
    "doubled_times.mkv": (
        "libx264",
        {
            "options": CLOSED,
            "context": {"time_base": Fraction(1, 10_000)},
            "pts": range(0, 4 * NUM_FRAMES, 4),
        },
        False,
    ),
    "begins_mid_gop.ts": ("libx264", {"options": CLOSED, "on_packet": without_first(7)}, False),
    "begins_open.mkv": ("libx264", {"options": OPEN, "on_packet": without_first(13)}, False),
    "begins_open_hevc.ts": ("libx265", {"options": OPEN_HEVC, "on_packet": without_first(15)}, False),
    "all_flagged_key.mkv": ("libx264", {"options": CLOSED, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_hevc.mkv": ("libx265", {"options": OPEN_HEVC, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_vp9.mkv": ("libvpx-vp9", {"options": ALTREF, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_vp8.mkv": ("libvpx", {"options": ALTREF, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_flv1.flv": ("flv", {"context": {"gop_size": 12}, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_h263.avi": (
        "h263",
        {"context": {"gop_size": 12}, "size": (176, 144), "fps": 30, "on_packet": flag_as_keyframe},
        True,
    ),
    "all_flagged_key_msmpeg4v2.avi": (
        "msmpeg4v2",
        {"context": {"gop_size": 12}, "on_packet": flag_as_keyframe},
        True,
    ),
    "all_flagged_key_msmpeg4v3.avi": (
        "msmpeg4",
        {"context": {"gop_size": 12}, "on_packet": flag_as_keyframe},
        True,
    ),
    "all_flagged_key_wmv1.wmv": ("wmv1", {"context": {"gop_size": 12}, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_wmv2.wmv": ("wmv2", {"context": {"gop_size": 12}, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_ffv1.avi": ("ffv1", {"context": {"gop_size": 12}, "on_packet": flag_as_keyframe}, True),
    "one_frame.mp4": ("libx264", {"options": CLOSED, "num_frames": 1}, True),
    "one_frame.ts": ("libx264", {"options": CLOSED, "num_frames": 1}, True),
    "two_frames.mkv": ("libx264", {"options": CLOSED, "num_frames": 2}, True),
    "turned_90.mp4": ("libx264", {"options": CLOSED, "rotation": (90,)}, True),
    "turned_180.mkv": ("libx264", {"options": CLOSED, "rotation": (180,)}, True),
    "turned_270.mp4": ("libx264", {"options": CLOSED, "rotation": (-90,)}, True),
    "turned_45.mp4": ("libx264", {"options": CLOSED, "rotation": (45,)}, True),
    "mirrored.mp4": ("libx264", {"options": CLOSED, "rotation": (0, True, False)}, True),
    "mirrored_90.mp4": ("libx264", {"options": CLOSED, "rotation": (90, True, False)}, True),
}
