"""Exact frames, held to OpenCV's loop; broken, foreign and hostile files, held to the tree of errors."""

import contextlib
import io
import os
import random
import socket
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.errors import (
    NotAVideoError,
    NoVideoStreamError,
    UnsupportedCodecError,
    VideoDamagedError,
    VideoEmptyError,
    VideoError,
    VideoStorageError,
    VideoTooLargeError,
    VideoTruncatedError,
    VideoUndecodableError,
    VideoUnreadableError,
)
from dfd_core.video import reader as video
from dfd_core.video.bits import num_frames_shown, starts_decoding
from dfd_core.video.index import FrameIndex, FramePosition, PacketFacts, keyframes_of, pts_in_order
from dfd_core.video.sniff import declared_size, other_kind

NUM_FRAMES = 60
WIDTH, HEIGHT = 128, 96


# Clips ----------------------------------------------------------------------------------------------------------------


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


def encode(
    path,
    codec,
    *,
    draw=picture,
    num_frames=NUM_FRAMES,
    rate=25,
    pixel_format="yuv420p",
    options=None,
    container_format=None,
    container_options=None,
    size=(WIDTH, HEIGHT),
    pts=None,
    time_base=None,
    gop=None,
    max_b_frames=None,
    rotation=None,
    tags=None,
    on_packet=None,
):
    """Encode numbered pictures to `path`. `on_packet(k, packet)` returns what to write for the k-th packet, or None."""
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        context.options = {"threads": "1", **(options or {})}
        if gop is not None:
            context.gop_size = gop
        if max_b_frames is not None:
            context.max_b_frames = max_b_frames
        if time_base is not None:
            context.time_base = time_base
        for name, value in (tags or {}).items():
            setattr(context, name, value)
        if rotation is not None:
            stream.set_display_rotation(*rotation)
        num_packets = 0
        for i in [*range(num_frames), None]:
            frame = None
            if i is not None:
                frame = av.VideoFrame.from_ndarray(draw(i, *size), format="rgb24").reformat(
                    format=pixel_format
                )
                frame.pts = i if pts is None else pts[i]
                frame.time_base = time_base or Fraction(1, rate)
            for packet in stream.encode(frame):
                written = packet if on_packet is None else on_packet(num_packets, packet)
                num_packets += 1
                if written is not None:
                    container.mux(written)
    return path


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

# name: (encoder, arguments of `encode`, whether timestamps identify the frames)
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
    "altref_vp8.webm": ("libvpx", {"options": ALTREF, "gop": 20}, True),
    "altref_vp9.webm": ("libvpx-vp9", {"options": ALTREF, "gop": 20}, True),
    "vp9.ivf": ("libvpx-vp9", {"options": ALTREF, "gop": 20}, True),
    "b_frames.avi": ("mpeg4", {"max_b_frames": 2, "gop": 12}, False),
    "b_frames_mpeg4.mp4": ("mpeg4", {"max_b_frames": 2, "gop": 12}, True),
    "mpeg2.ts": ("mpeg2video", {"max_b_frames": 2, "gop": 12}, True),
    "mpeg2.mpg": ("mpeg2video", {"max_b_frames": 2, "gop": 12}, False),
    "mpeg2.mkv": ("mpeg2video", {"max_b_frames": 2, "gop": 12}, True),
    "mjpeg.avi": ("mjpeg", {"pixel_format": "yuvj420p"}, True),
    "odd_sides.mkv": ("ffv1", {"size": (127, 95), "num_frames": 12}, True),
    "wmv2.wmv": ("wmv2", {"gop": 12}, True),
    "flv1.flv": ("flv", {"gop": 12}, True),
    "variable_rate.mkv": (
        "libx264",
        {"options": OPEN, "time_base": Fraction(1, 1000), "pts": UNEVEN_MS},
        True,
    ),
    "variable_rate.mp4": (
        "libx264",
        {"options": OPEN, "time_base": Fraction(1, 1000), "pts": UNEVEN_MS},
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
        {"options": CLOSED, "time_base": Fraction(1, 10_000), "pts": range(0, 4 * NUM_FRAMES, 4)},
        False,
    ),
    "begins_mid_gop.ts": ("libx264", {"options": CLOSED, "on_packet": without_first(7)}, False),
    "begins_open.mkv": ("libx264", {"options": OPEN, "on_packet": without_first(13)}, False),
    "begins_open_hevc.ts": ("libx265", {"options": OPEN_HEVC, "on_packet": without_first(15)}, False),
    "all_flagged_key.mkv": ("libx264", {"options": CLOSED, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_hevc.mkv": ("libx265", {"options": OPEN_HEVC, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_vp9.mkv": ("libvpx-vp9", {"options": ALTREF, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_vp8.mkv": ("libvpx", {"options": ALTREF, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_flv1.flv": ("flv", {"gop": 12, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_h263.avi": (
        "h263",
        {"gop": 12, "size": (176, 144), "rate": 30, "on_packet": flag_as_keyframe},
        True,
    ),
    "all_flagged_key_msmpeg4v2.avi": ("msmpeg4v2", {"gop": 12, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_msmpeg4v3.avi": ("msmpeg4", {"gop": 12, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_wmv1.wmv": ("wmv1", {"gop": 12, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_wmv2.wmv": ("wmv2", {"gop": 12, "on_packet": flag_as_keyframe}, True),
    "all_flagged_key_ffv1.avi": ("ffv1", {"gop": 12, "on_packet": flag_as_keyframe}, True),
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


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A function from a name in CLIPS to its file, encoded when first asked for."""
    folder = tmp_path_factory.mktemp("video")

    def make(name):
        path = folder / name
        if not path.exists():
            encoder, arguments, _ = CLIPS[name]
            encode(path, encoder, **arguments)
        return path

    return make


# The reference --------------------------------------------------------------------------------------------------------


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


# Exactness ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_of_opencv_whatever_is_asked_for(clip, name):
    path = clip(name)
    expected, count = opencv_frames(path)
    assert count > 0
    with path.open("rb") as file:
        facts = video.probe(file)
        index = video.index_frames(file)
        assert index.num_frames == count
        assert index.fault is None
        assert index.is_exact is CLIPS[name][2]
        assert expected[0][0] == (facts.height, facts.width, 3)
        assert facts.fps == pytest.approx(opencv_fps(path), rel=1e-12)
        for indices in choices(count, int(facts.fps) + 1):
            assert decoded(file, index, indices) == {i: expected[i] for i in indices}


@pytest.mark.parametrize("name", ["av1.mp4", "av1.mkv"])
@pytest.mark.parametrize("on_packet", [None, flag_as_keyframe], ids=["whole", "all_flagged_key"])
def test_av1_frames_are_those_of_a_full_decode(tmp_path, capfd, name, on_packet):
    with ordinary_priority():
        path = encode(tmp_path / name, "libsvtav1", options={"preset": "12"}, gop=15, on_packet=on_packet)
    capfd.readouterr()  # the encoder speaks
    expected = pyav_frames(path)  # OpenCV's wheel decodes no AV1
    with path.open("rb") as file:
        index = video.index_frames(file)
        assert index.is_exact
        for indices in choices(len(expected), 26):
            assert decoded(file, index, indices) == {i: expected[i] for i in indices}


def test_interlaced_frames_are_counted_by_decoding_and_those_of_a_full_decode(tmp_path):
    path = encode(tmp_path / "interlaced.mp4", "libx264", options=x264("keyint=15:bframes=3:tff=1"))
    expected = pyav_frames(path)  # OpenCV 5 returns memory that it never wrote
    with path.open("rb") as file:
        index = video.index_frames(file)
        assert not index.is_exact
        assert decoded(file, index, range(0, NUM_FRAMES, 7)) == {
            i: expected[i] for i in range(0, NUM_FRAMES, 7)
        }


@pytest.mark.parametrize("name", ["named.mp4", "named.mkv", "named.flv", "named.ts"])
def test_decoding_from_the_middle_knows_the_encoder_that_only_the_first_packet_names(tmp_path, name):
    options = x264("keyint=20:bframes=8:b-adapt=0:b-pyramid=normal:direct=spatial:ref=5:scenecut=0")
    path = encode(tmp_path / name, "libx264", options=options, draw=almost_still)
    plain, count = opencv_frames(path)
    content = path.read_bytes()
    at = content.index(b"x264 - core ") + len(b"x264 - core ")
    path.write_bytes(content[:at] + b"020" + content[at + 3 :])  # a build with a fault that FFmpeg repeats
    expected, _ = opencv_frames(path)
    assert {i for i in range(40, count) if expected[i] != plain[i]}
    with path.open("rb") as file:
        assert decoded(file, video.index_frames(file), range(40, count)) == {
            i: expected[i] for i in range(40, count)
        }


@pytest.mark.parametrize("name", ["cover_first.mp4", "cover_last.mp4"])
def test_a_cover_picture_is_not_the_video(tmp_path, name):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        kinds = [("mjpeg", "yuvj420p", (32, 32)), ("libx264", "yuv420p", (WIDTH, HEIGHT))]
        streams = []
        for codec, pixel_format, size in kinds if name == "cover_first.mp4" else reversed(kinds):
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = size
            stream.pix_fmt = pixel_format
            if codec == "mjpeg":
                stream.disposition = av.stream.Disposition.attached_pic.value
            streams.append((stream, size, 1 if codec == "mjpeg" else 20))
        for i in range(20):
            for stream, size, count in streams:
                if i < count:
                    frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
                    frame = frame.reformat(format=stream.pix_fmt)
                    frame.pts, frame.time_base = i, Fraction(1, 25)
                    container.mux(stream.encode(frame))
        for stream, *_ in streams:
            container.mux(stream.encode(None))
    facts = probed(path)
    assert (facts.codec, facts.width, facts.height) == ("h264", WIDTH, HEIGHT)
    assert indexed(path.read_bytes()).num_frames == 20


def test_a_video_that_changes_its_size_keeps_that_of_its_beginning(tmp_path):
    big = encode(tmp_path / "a.ts", "libx264", num_frames=10, options=CLOSED)
    small = encode(
        tmp_path / "b.ts", "libx264", num_frames=10, options=CLOSED, size=(64, 48), pts=range(10, 20)
    )
    path = tmp_path / "both.ts"
    path.write_bytes(big.read_bytes() + small.read_bytes())
    expected, count = opencv_frames(path)
    assert {shape for shape, _ in expected.values()} == {(HEIGHT, WIDTH, 3)}
    with path.open("rb") as file:
        assert decoded(file, video.index_frames(file), range(count)) == expected


@pytest.mark.slow
def test_wide_colours_become_those_of_opencv(tmp_path):
    tags = {"colorspace": 1, "color_primaries": 12, "color_trc": 13, "color_range": 1}  # Display P3
    path = encode(tmp_path / "p3.mp4", "libx264", num_frames=3, options=CLOSED, tags=tags)
    expected, _ = opencv_frames(path)
    with path.open("rb") as file:
        assert decoded(file, video.index_frames(file), range(3)) == expected
    assert pyav_frames(path) != expected


def test_a_segment_at_the_end_is_read_without_what_lies_before_it(tmp_path):
    path = encode(tmp_path / "long.mkv", "ffv1", size=(480, 360))

    class Counted(io.BytesIO):
        num_read = 0

        def read(self, size=-1):
            data = super().read(size)
            self.num_read += len(data)
            return data

    file = Counted(path.read_bytes())
    index = video.index_frames(file)
    assert path.stat().st_size > 5_000_000
    file.num_read = 0
    assert [frame.index for frame in video.decode_frames(file, index.positions([58, 59]))] == [58, 59]
    assert file.num_read < path.stat().st_size / 2


def test_times_are_those_of_the_container(clip):
    index = indexed(clip("variable_rate.mkv").read_bytes())
    assert index.times_s == pytest.approx((np.array(UNEVEN_MS) - UNEVEN_MS[0]) / 1000)
    assert indexed(clip("late_start.mkv").read_bytes()).times_s[0] == 0.0
    assert indexed(clip("closed.mp4").read_bytes()).duration_s == pytest.approx(NUM_FRAMES / 25)
    assert indexed(clip("open.h264").read_bytes()).duration_s == pytest.approx(NUM_FRAMES / 25)
    assert indexed(clip("edit_list.mp4").read_bytes()).num_frames == NUM_FRAMES - 23


@pytest.mark.parametrize(
    ("name", "rotation_deg", "size"),
    [
        ("turned_90.mp4", 270, (HEIGHT, WIDTH)),
        ("turned_270.mp4", 90, (HEIGHT, WIDTH)),
        ("turned_180.mkv", 180, (WIDTH, HEIGHT)),
        ("turned_45.mp4", 0, (WIDTH, HEIGHT)),
        ("closed.mp4", 0, (WIDTH, HEIGHT)),
    ],
)
def test_the_size_is_stated_as_displayed(clip, name, rotation_deg, size):
    facts = probed(clip(name))
    assert (facts.rotation_deg, (facts.width, facts.height)) == (rotation_deg, size)


def test_facts_come_from_the_header(clip):
    facts = probed(clip("closed.mp4"))
    assert facts.container.startswith("mov,mp4")
    assert (facts.codec, facts.pixel_format) == ("h264", "yuv420p")
    assert (facts.fps, facts.duration_s, facts.num_frames_from_header) == (25.0, 2.4, NUM_FRAMES)
    assert probed(clip("closed.mp4")) == facts
    assert probed(clip("open.mkv")).duration_s == pytest.approx(2.4, abs=0.1)
    assert probed(clip("open.mkv")).num_frames_from_header is None


def test_no_wanted_frame_is_no_work():
    assert list(video.decode_frames(io.BytesIO(b""), [])) == []


def test_positions_must_ascend(clip):
    position = FramePosition(3, 3, 0.0)
    with pytest.raises(ValueError, match="ascending"):
        video.decode_frames(io.BytesIO(b""), [position, position])


# Keyframes ------------------------------------------------------------------------------------------------------------


def pyav_keyframes(path):
    """Return the indices of the frames that a plain decode of everything calls key frames."""
    with av.open(str(path)) as container:
        return [index for index, frame in enumerate(container.decode(video=0)) if frame.key_frame]


@pytest.fixture
def sent(monkeypatch):
    """The timestamps of the packets that went into the decoder."""
    timestamps = []
    decode = video.OpenVideo.decode

    def noted(self, packet, **how):
        if packet is not None:
            timestamps.append(packet.pts)
        return decode(self, packet, **how)

    monkeypatch.setattr(video.OpenVideo, "decode", noted)
    return timestamps


@pytest.mark.parametrize("name", CLIPS)
def test_keyframes_are_those_of_a_full_decode_and_are_decoded_alone(clip, name, sent):
    path = clip(name)
    expected, _ = opencv_frames(path)
    with path.open("rb") as file:
        index = video.index_frames(file)
        keyframes = index.keyframes.tolist()
        assert keyframes == pyav_keyframes(path)
        for indices in (keyframes, keyframes[1:], keyframes[::2], keyframes[-1:]):
            sent.clear()
            assert decoded(file, index, indices) == {i: expected[i] for i in indices}
            if index.is_exact:
                assert sent == index.pts[indices].tolist()
            else:
                assert len(sent) >= len(indices)


@pytest.mark.parametrize("name", ["av1.mp4", "av1.mkv"])
def test_keyframes_of_av1_are_those_of_a_full_decode_and_are_decoded_alone(tmp_path, capfd, sent, name):
    with ordinary_priority():
        path = encode(tmp_path / name, "libsvtav1", options={"preset": "12"}, gop=15)
    capfd.readouterr()  # the encoder speaks
    expected = pyav_frames(path)
    with path.open("rb") as file:
        index = video.index_frames(file)
        assert index.keyframes.tolist() == pyav_keyframes(path) == [0, 15, 30, 45]
        sent.clear()
        assert decoded(file, index, index.keyframes) == {i: expected[i] for i in index.keyframes}
        assert sent == index.pts[index.keyframes].tolist()


@pytest.mark.parametrize(
    "name", ["closed.mp4", "open.mp4", "10_bit.mp4", "open_hevc.mp4", "b_frames_mpeg4.mp4"]
)
def test_keyframes_do_not_mind_what_becomes_of_the_other_frames(clip, name):
    expected, _ = opencv_frames(clip(name))
    content = bytearray(clip(name).read_bytes())
    with av.open(str(clip(name))) as container:
        others = [
            (packet.pos, packet.size)
            for packet in container.demux(video=0)
            if packet.size and not packet.is_keyframe
        ]
    for start, size in others:
        content[start + 20 : start + size] = bytes(max(0, size - 20))
    file = io.BytesIO(content)
    index = video.index_frames(file)
    assert decoded(file, index, index.keyframes) == {i: expected[i] for i in index.keyframes}
    everything = {}
    with contextlib.suppress(VideoDamagedError):  # HEVC does not complain
        everything = decoded(file, index, range(index.num_frames))
    assert everything != expected


def test_a_video_whose_keyframe_is_hidden_has_none_and_its_first_frame_is_had_all_the_same(clip):
    path = clip("hidden_keyframe.mp4")
    expected, _ = opencv_frames(path)
    with path.open("rb") as file:
        index = video.index_frames(file)
        assert index.keyframes.tolist() == []
        assert decoded(file, index, [0]) == {0: expected[0]}


@pytest.mark.parametrize("name", ["hidden_keyframe.mp4", "flv1.flv", "altref_vp8.webm", "b_frames_mpeg4.mp4"])
def test_a_frame_that_is_taken_for_a_keyframe_is_not_decoded_alone(clip, name):
    path = clip(name)
    expected, _ = opencv_frames(path)
    with path.open("rb") as file:
        index = video.index_frames(file)
        wrong = [FramePosition(i, int(index.pts[i]), 0.0, is_keyframe=True) for i in (0, 9)]
        found = {frame.index: checksum(frame.rgb) for frame in video.decode_frames(file, wrong)}
        assert found == {i: expected[i] for i in (0, 9)}


def flv_tags(content):
    """Yield (kind, first bytes of its body, the whole tag) of an FLV file."""
    at = 13
    while at < len(content):
        size = 11 + int.from_bytes(content[at + 1 : at + 4], "big") + 4
        yield content[at], content[at + 11 : at + 13], content[at : at + size]
        at += size


def test_keyframes_behind_a_change_of_the_decoders_parameters_are_those_of_opencv(tmp_path, sent):
    first = encode(
        tmp_path / "a.flv", "libx264", num_frames=300, options=x264("keyint=20:bframes=2:scenecut=0")
    )
    second = encode(
        tmp_path / "b.flv",
        "libx264",
        num_frames=40,
        options=x264("keyint=10:bframes=0:cabac=0:scenecut=0"),
        size=(64, 48),
        pts=range(310, 350),
    )
    path = tmp_path / "both.flv"
    content = first.read_bytes()
    path.write_bytes(
        content[:13]
        + b"".join(tag for kind, body, tag in flv_tags(content) if (kind, body[1:]) != (9, b"\x02"))
        + b"".join(tag for kind, _, tag in flv_tags(second.read_bytes()) if kind == 9)
    )
    expected, count = opencv_frames(path)
    assert count == 340
    with path.open("rb") as file:
        index = video.index_frames(file)
        assert index.is_exact
        assert index.keyframes.tolist() == pyav_keyframes(path) == [*range(0, 300, 20), *range(300, 340, 10)]
        for indices in ([0, 310], [0, 280, 330], index.keyframes.tolist()):
            sent.clear()
            assert decoded(file, index, indices) == {i: expected[i] for i in indices}
            assert len(sent) < 100, "nothing was met that is broken"


def test_a_damaged_keyframe_is_told_and_the_others_are_had(clip):
    path = clip("closed.mp4")
    expected, _ = opencv_frames(path)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.is_keyframe][2]
        content[packet.pos + 200 : packet.pos + packet.size] = bytes(packet.size - 200)
    file = io.BytesIO(content)
    index = video.index_frames(file)
    frames = {}
    with pytest.raises(VideoDamagedError):
        for frame in video.decode_frames(file, index.positions(index.keyframes.tolist())):
            frames[frame.index] = checksum(frame.rgb)
    assert {i: frames[i] for i in (0, 15, 45)} == {i: expected[i] for i in (0, 15, 45)}


# Broken files ---------------------------------------------------------------------------------------------------------


def fast_start(path, target):
    """Write `path` again with its index first, so that it opens when its end is missing."""
    with (
        av.open(str(path)) as source,
        av.open(str(target), "w", options={"movflags": "faststart"}) as container,
    ):
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return target


def test_a_truncated_mp4_gives_what_is_there_and_says_so(clip, tmp_path):
    content = fast_start(clip("open.mp4"), tmp_path / "fast.mp4").read_bytes()
    expected, _ = opencv_frames(clip("open.mp4"))
    for keep in (0.6, 0.98):
        file = io.BytesIO(content[: int(len(content) * keep)])
        index = video.index_frames(file)
        assert isinstance(index.fault, VideoTruncatedError)
        assert "of 60 frames" in str(index.fault)
        assert 0 < index.num_frames < NUM_FRAMES
        frames = decoded(file, index, range(0, index.num_frames - 5, 3))
        assert frames == {i: expected[i] for i in range(0, index.num_frames - 5, 3)}


@pytest.mark.parametrize(
    "name",
    ["fragments.mp4", "open.mkv", "altref_vp9.webm", "b_frames.avi", "mjpeg.avi", "open.flv", "vp9.ivf"],
)
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_truncation_is_told_in_every_container_that_shows_it(clip, name, keep):
    content = clip(name).read_bytes()
    index = indexed(content[: int(len(content) * keep)])
    assert isinstance(index.fault, VideoTruncatedError)
    assert 0 < index.num_frames < NUM_FRAMES


def media_data(content):
    """Return where the payload of an mp4 lies."""
    start = content.index(b"mdat") + 4
    return start, start + int.from_bytes(content[start - 8 : start - 4], "big") - 8


@pytest.mark.parametrize("name", ["closed.mp4", "open_hevc.mp4"])
@pytest.mark.parametrize("harm", ["flipped", "zeroed"])
def test_a_damaged_payload_gives_the_frames_of_opencv_as_far_as_it_reads_and_then_says_so(
    clip, tmp_path, name, harm
):
    content = bytearray(clip(name).read_bytes())
    start, end = media_data(content)
    middle, length = start + (end - start) // 2, (end - start) // 8
    if harm == "zeroed":
        content[middle : middle + length] = bytes(length)
    else:
        for at in random.Random(5).sample(range(middle, middle + length), 60):
            content[at] ^= 0x5A
    path = tmp_path / name
    path.write_bytes(content)
    expected, count = opencv_frames(path)
    file = io.BytesIO(content)
    index = video.index_frames(file)
    frames = {}
    with pytest.raises(VideoDamagedError, match="damaged") as raised:
        for frame in video.decode_frames(file, index.positions(range(index.num_frames))):
            frames[frame.index] = checksum(frame.rgb)
    assert str(raised.value).isprintable()
    assert len(frames) >= NUM_FRAMES // 3
    read_by_both = {i: frames[i] for i in frames if i < count}
    assert read_by_both == {i: expected[i] for i in read_by_both}


def test_a_damaged_part_that_no_wanted_frame_needs_is_not_met(clip):
    content = bytearray(clip("closed.mp4").read_bytes())
    start, end = media_data(content)
    content[end - (end - start) // 5 : end] = bytes((end - start) // 5)
    file = io.BytesIO(content)
    index = video.index_frames(file)
    assert len(list(video.decode_frames(file, index.positions(range(0, 20))))) == 20


def test_a_payload_of_zeros_is_undecodable(clip):
    content = bytearray(clip("closed.mp4").read_bytes())
    start, end = media_data(content)
    content[start:end] = bytes(end - start)
    with pytest.raises(VideoUndecodableError):
        indexed(content)
    file = io.BytesIO(content)
    with pytest.raises(VideoUndecodableError):
        list(video.decode_frames(file, [FramePosition(0, 0, 0.0)]))


def test_wanted_frames_beyond_the_end_are_missing_not_made_up(clip):
    file = clip("b_frames.avi").open("rb")
    with file, pytest.raises(VideoTruncatedError, match="1 of 2 wanted frames are missing"):
        list(video.decode_frames(file, [FramePosition(0, None, 0.0), FramePosition(NUM_FRAMES, None, 9.9)]))


# Foreign files --------------------------------------------------------------------------------------------------------

JPEG = bytes(cv2.imencode(".jpg", picture(0))[1])
PNG = bytes(cv2.imencode(".png", picture(0))[1])
TS_PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:%d/a.ts\n#EXT-X-ENDLIST\n"
DASH = (
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S">'
    b'<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    b"<BaseURL>http://127.0.0.1:%d/a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", VideoEmptyError, "zero bytes"),
        (b"This is not a video.\n" * 40, NotAVideoError, "text"),
        (b"<!DOCTYPE html><html><body>404</body></html>", NotAVideoError, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", NotAVideoError, "Git LFS"),
        (JPEG, NotAVideoError, "JPEG"),
        (PNG, NotAVideoError, "PNG"),
        (b"GIF89a" + bytes(100), NotAVideoError, "GIF"),
        (b"PK\x03\x04" + bytes(100), NotAVideoError, "ZIP"),
        (bytes(5000), NotAVideoError, "no known video format"),
        (random.Random(0).randbytes(5000), NotAVideoError, "no known video format"),
        (b"RIFF\x00\x10\x00\x00WAVEfmt " + bytes(4000), NoVideoStreamError, "sound"),
        (b"ID3\x04" + bytes(4000), NoVideoStreamError, "sound"),
    ],
)
def test_a_file_that_is_no_video_is_named_for_what_it_is(content, error, words):
    for use in (video.probe, video.index_frames):
        with pytest.raises(error, match=words):
            use(io.BytesIO(content))
    with pytest.raises(error):
        list(video.decode_frames(io.BytesIO(content), [FramePosition(0, 0, 0.0)]))


def test_a_video_of_sound_only_has_no_video_stream(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), format="s16", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(NoVideoStreamError):
        probed(path)


def test_a_missing_index_is_said_to_be_missing(clip):
    content = clip("closed.mp4").read_bytes()
    with pytest.raises(VideoUnreadableError, match="moov"):
        indexed(content[: content.index(b"moov") - 4])
    with pytest.raises(VideoUnreadableError):
        indexed(clip("open.mkv").read_bytes()[:60])


def test_an_unknown_codec_is_unsupported(clip):
    content = clip("closed.mp4").read_bytes().replace(b"avc1\x00", b"zzzz\x00").replace(b"avcC", b"zzzC")
    with pytest.raises(UnsupportedCodecError):
        indexed(content)


def test_a_heif_picture_is_no_video(clip):
    content = clip("one_frame.mp4").read_bytes()
    with pytest.raises(NotAVideoError):
        indexed(content[:8] + b"heic" + content[12:])


def test_a_frame_above_the_limit_is_refused_before_it_is_decoded(clip):
    with clip("closed.mp4").open("rb") as file:
        assert video.probe(file, max_pixels=WIDTH * HEIGHT).width == WIDTH
        with pytest.raises(VideoTooLargeError, match=f"{WIDTH} x {HEIGHT}"):
            video.probe(file, max_pixels=WIDTH * HEIGHT - 1)


def test_a_size_that_grows_past_the_limit_is_not_decoded(tmp_path):
    small = encode(tmp_path / "a.ts", "libx264", num_frames=10, options=CLOSED, size=(64, 48))
    big = encode(
        tmp_path / "b.ts", "libx264", num_frames=10, options=CLOSED, size=(640, 480), pts=range(10, 20)
    )
    file = io.BytesIO(small.read_bytes() + big.read_bytes())
    positions = [FramePosition(i, None, i / 25) for i in range(20)]
    with pytest.raises(VideoDamagedError, match="10 of 20"):
        list(video.decode_frames(file, positions, max_pixels=64 * 48))


# Hostile files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TS_PLAYLIST, DASH], ids=["playlist", "dash"])
def test_a_playlist_under_the_name_of_a_video_calls_nobody(tmp_path, text):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        path = tmp_path / "playlist.mp4"
        path.write_bytes(text % server.getsockname()[1])
        with path.open("rb") as file, pytest.raises(NotAVideoError):
            video.probe(file)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "[Script Info]\nTitle: x\n[Events]\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\n",
    ],
    ids=["concat", "subtitles", "session"],
)
def test_a_list_of_other_files_is_refused_and_they_are_not_opened(tmp_path, text):
    encode(tmp_path / "secret.mp4", "libx264", num_frames=5, options=CLOSED)
    path = tmp_path / "list.mp4"
    path.write_text(text)
    if "concat" in text:
        with av.open(str(path)) as container:  # what FFmpeg left to itself does
            assert len(list(container.decode(video=0))) == 5
    with path.open("rb") as file, pytest.raises(NotAVideoError):
        video.index_frames(file)


class Failing(io.BytesIO):
    """A file whose reads fail once `num_good` of them have succeeded."""

    def __init__(self, content, error, num_good):
        super().__init__(content)
        self.error, self.num_good = error, num_good

    def read(self, size=-1):
        self.num_good -= 1
        if self.num_good < 0:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize(
    "error", [OSError(5, "secret address"), PermissionError(13, "no"), ConnectionError(), ValueError()]
)
@pytest.mark.parametrize("num_good", [0, 1, 2, 3])
def test_a_failing_storage_is_not_the_videos_fault(tmp_path, error, num_good):
    path = encode(tmp_path / "a.mkv", "ffv1", size=(320, 240))
    content = path.read_bytes()
    index = indexed(content)

    def everything(file):
        video.probe(file)
        video.index_frames(file)
        list(video.decode_frames(file, index.positions([0, 59])))

    with pytest.raises(VideoStorageError) as raised:
        everything(Failing(content, error, num_good))
    assert raised.value.__cause__ is error
    assert "secret" not in str(raised.value)


def test_a_failing_seek_is_the_storages_fault(clip):
    class Unseekable(io.BytesIO):
        def seek(self, offset, whence=0):
            if whence == 0 and offset > 100:
                raise OSError(5, "gone")
            return super().seek(offset, whence)

    content = clip("closed.mp4").read_bytes()
    with pytest.raises(VideoStorageError):
        video.index_frames(Unseekable(content))


def test_an_interrupt_while_reading_comes_through(clip):
    with pytest.raises(KeyboardInterrupt):
        video.index_frames(Failing(clip("closed.mp4").read_bytes(), KeyboardInterrupt(), 0))


def test_a_read_that_returns_too_much_does_no_harm(clip):
    content = clip("closed.mp4").read_bytes()

    class Generous(io.BytesIO):
        def read(self, size=-1):
            return super().read(size) + b"more"

    assert isinstance(Generous(content).read(1), bytes)
    with pytest.raises(VideoError):
        list(video.decode_frames(Generous(content[:50]), [FramePosition(0, 0, 0.0)]))


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_ends_in_a_known_error_or_in_frames(clip, seed):
    rng = random.Random(seed)
    for name in (
        "closed.mp4",
        "open.mkv",
        "open.ts",
        "altref_vp8.webm",
        "b_frames.avi",
        "flv1.flv",
        "fragments.mp4",
    ):
        content = bytearray(clip(name).read_bytes())
        for _ in range(rng.choice([1, 5, 50])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        file = io.BytesIO(content[: rng.choice([len(content), rng.randrange(1, len(content))])])
        try:
            video.probe(file)
            index = video.index_frames(file)
            for frame in video.decode_frames(file, index.positions(range(0, index.num_frames, 9))):
                assert frame.rgb.ndim == 3
        except VideoError as error:
            assert str(error)
            assert "\n" not in str(error)


# Arithmetic and bits --------------------------------------------------------------------------------------------------


def shown(pts, *, is_keyframe=False, num_frames=1):
    return PacketFacts(pts=pts, duration=1, is_keyframe=is_keyframe, num_frames=num_frames)


@given(st.lists(st.integers(1, 10_000), unique=True, min_size=1), st.integers(-100, 0))
def test_presentation_order_is_that_of_the_timestamps(pts, first):
    packets = [shown(first, is_keyframe=True), *map(shown, pts)]
    assert pts_in_order(packets) == [first, *sorted(pts)]
    hidden = [shown(max(pts) + 1, num_frames=0), shown(None, num_frames=0)]
    assert pts_in_order([*packets, *hidden]) == [first, *sorted(pts)]


@pytest.mark.parametrize(
    "packets",
    [
        [],
        [shown(0)],
        [shown(None, is_keyframe=True)],
        [shown(0, is_keyframe=True), shown(None)],
        [shown(0, is_keyframe=True), shown(0)],
        [shown(5, is_keyframe=True), shown(4)],
        [shown(0, is_keyframe=True), shown(1, num_frames=-1)],
    ],
    ids=["none", "no_keyframe", "no_first_time", "no_time", "doubled", "leading", "unknown_codec"],
)
def test_packets_that_do_not_tell_are_not_trusted(packets):
    assert pts_in_order(packets) is None


def test_keyframes_are_the_shown_frames_of_the_packets_that_start_decoding():
    packets = [
        PacketFacts(pts, 1, is_keyframe=True, num_frames=num_frames, starts_decoding=starts)
        for pts, num_frames, starts in [
            (0, 1, True),
            (10, 0, True),
            (10, 1, False),
            (30, 1, True),
            (20, 1, False),
        ]
    ]
    assert keyframes_of(packets, [0, 10, 20, 30]).tolist() == [0, 3]


@given(st.lists(st.integers(0, 1 << 40), min_size=1, unique=True), st.integers(1, 100_000))
def test_times_never_fall_and_begin_at_zero(pts, rate):
    index = FrameIndex(np.array(sorted(pts), np.int64), Fraction(1, rate), True, 0.0)
    assert index.times_s[0] == 0.0
    assert (np.diff(index.times_s) >= 0).all()
    positions = index.positions(range(len(pts)))
    assert [position.pts for position in positions] == sorted(pts)
    with pytest.raises(ValueError, match="Received"):
        index.positions([len(pts)])


@given(st.integers(0, (1 << 56) - 2), st.integers(0, 100))
def test_the_declared_size_of_a_matroska_file_is_read_back(size, header_size):
    head = b"\x1a\x45\xdf\xa3" + bytes([0x80 | header_size]) + bytes(header_size) + b"\x18\x53\x80\x67"
    body = (size | 1 << 56).to_bytes(8, "big")
    assert declared_size(head + body) == len(head) + 8 + size
    assert declared_size(head + b"\x01" + b"\xff" * 7) is None
    assert declared_size(head) is None


@given(st.binary(max_size=300))
def test_no_head_of_a_file_makes_its_reader_fail(head):
    other_kind(head)
    declared_size(head)


CODECS = [*"h264 hevc av1 vp8 vp9 mpeg2video mpeg4 ffv1 flv1 h263 msmpeg4v1 msmpeg4v3 wmv2 theora".split()]


@given(st.sampled_from(CODECS), st.binary(min_size=1, max_size=100), st.sampled_from([0, 1, 2, 4]))
def test_no_packet_makes_its_reader_fail(codec, payload, length_size):
    assert starts_decoding(codec, memoryview(payload), length_size) in (True, False)
    assert num_frames_shown(codec, memoryview(payload)) in (-1, 0, 1)


START = b"\x00\x00\x01"


@pytest.mark.parametrize(
    ("codec", "payload", "expected"),
    [
        ("h264", START + b"\x65\x88", True),
        ("h264", START + b"\x41\x9a", False),
        ("h264", START + b"\x06\x06\x01\xc4\x80" + START + b"\x41\x9a", True),  # recovers at once, exactly
        ("h264", START + b"\x06\x06\x01\x44\x80" + START + b"\x41\x9a", False),  # one frame later
        ("h264", START + b"\x06\x06\x01\x84\x80" + START + b"\x41\x9a", False),  # not exactly
        ("hevc", START + b"\x2a\x01", True),
        ("hevc", START + b"\x02\x01", False),
        ("av1", b"\x12\x00\x0a\x01\x00\x32\x01\x10", True),
        ("av1", b"\x12\x00\x0a\x01\x00\x32\x01\x00", False),  # a key frame that is not shown
        ("av1", b"\x12\x00\x32\x01\x10", False),  # no sequence header
        ("av1", b"\x12\x00\x0a\x01\x00\x32\x01\x30", False),
        ("vp8", b"\x10\x00", True),
        ("vp8", b"\x11\x00", False),
        ("vp9", b"\x82\x00", True),
        ("vp9", b"\x86\x00", False),
        ("vp9", b"\x88\x00", False),
        ("mpeg2video", START + b"\x00\x00\x08\x00", True),
        ("mpeg2video", START + b"\x00\x00\x10\x00", False),
        ("mpeg4", START + b"\xb6\x10", True),
        ("mpeg4", START + b"\xb6\x50", False),
        ("h263", b"\x00\x00\x80\x02\x08\x00", True),  # QCIF
        ("h263", b"\x00\x00\x80\x02\x0a\x00", False),
        ("h263", b"\x00\x00\x80\x02\x1c\x80\x00\x00\x00", True),  # PLUSPTYPE, with its optional part
        ("h263", b"\x00\x00\x80\x02\x1c\x80\x00\x04\x00", False),
        ("h263", b"\x00\x00\x80\x02\x1c\x10\x00", False),
        ("flv1", b"\x00\x00\x84\x01\x00\x00", True),
        ("flv1", b"\x00\x00\x84\x01\x20\x00", False),
        ("flv1", b"\x00\x00\x84\x00\x40\x30\x20\x00", False),  # with a size of its own, in bytes
        ("flv1", b"\x00\x00\x84\x00\x40\x30\x00\x00", True),
        ("msmpeg4v1", b"\x00\x00\x01\x00\x02\x00", False),
        ("msmpeg4v1", b"\x00\x00\x01\x00\x08\x00", True),
        ("msmpeg4v3", b"\x40", False),
        ("wmv1", b"\x3f", True),
        ("wmv2", b"\x40", True),
        ("wmv2", b"\x80", False),
        ("ffv1", b"\x7f\x80", True),
        ("ffv1", b"\x7f\x7f", False),
        ("prores", b"\x00", True),
    ],
)
def test_only_a_picture_that_needs_no_other_starts_decoding(codec, payload, expected):
    assert starts_decoding(codec, memoryview(payload), 0) is expected
    if codec == "h264":
        lengths = b"".join(len(unit).to_bytes(4, "big") + unit for unit in payload.split(START)[1:])
        assert starts_decoding(codec, memoryview(lengths), 4) is expected


@pytest.mark.parametrize(
    ("codec", "payload", "expected"),
    [
        ("vp8", b"\x11\x00", 1),
        ("vp8", b"\x01\x00", 0),
        ("vp9", b"\x86\x00", 1),
        ("vp9", b"\x84\x00", 0),
        ("vp9", b"\x88\x00", 1),  # shows a frame decoded before
        ("vp9", b"\x84\x00\xc0\x02\xc0", 1),  # a superframe shows its last
        ("mpeg4", START + b"\xb6" + bytes(20), 1),
        ("mpeg4", START + b"\xb6" + bytes(20) + START + b"\xb6" + bytes(20), -1),  # two pictures in a packet
        ("mpeg4", START + b"\xb6\x10\x00", -1),  # too short for a picture: not coded
        ("h264", b"\x00", 1),
        ("theora", b"\x00", -1),
    ],
)
def test_packets_that_show_no_frame_are_known(codec, payload, expected):
    assert num_frames_shown(codec, memoryview(payload)) == expected


# Real files -----------------------------------------------------------------------------------------------------------

ODD_KINDS = {
    "dfdc_no_moov.mp4": "unreadable",
    "dfdc_truncated_half.mp4": "unreadable",
    "ffpp_mdat_400_bytes_flipped.mp4": "damaged",
    "ffpp_mdat_hole_zeroed_20pct.mp4": "damaged",
    "ffpp_no_moov.mp4": "unreadable",
    "ffpp_truncated_95pct.mp4": "unreadable",
    "ffpp_truncated_half.mp4": "unreadable",
    "html_inside.mp4": "not_a_video",
    "jpeg_inside.mp4": "not_a_video",
    "lfs_pointer.mp4": "not_a_video",
    "text_inside.mp4": "not_a_video",
    "zero_bytes.mp4": "empty",
    "amr_nb_1f.3gp": "no_video_stream",
    "chunk_out_of_range.mp4": "unreadable",
    "invalid_userdata.mp4": "undecodable",
    "minimal.mp4": None,
    "no_timescale.mp4": "damaged",
    "opus_audioinit.mp4": "no_video_stream",
    "short-cenc.mp4": "undecodable",
    "white.mp4": None,
    "zero_empty_stsc.mp4": "undecodable",
}


def check_real(path):
    """Hold a stride, a part of the middle and the keyframes of a whole video to OpenCV's frames."""
    with path.open("rb") as file:
        facts, index = video.probe(file), video.index_frames(file)
        assert index.fault is None
        stride = range(0, index.num_frames, int(facts.fps) + 1)
        start = index.num_frames * 2 // 3
        middle = range(start, min(start + 30, index.num_frames), 9)
        keyframes = index.keyframes[:: max(1, len(index.keyframes) // 12)].tolist()
        assert keyframes[0] == 0
        expected, count = opencv_frames(path, {*stride, *middle, *keyframes})
        assert count == index.num_frames
        assert facts.fps == pytest.approx(opencv_fps(path), rel=1e-12)
        for indices in (stride, middle, keyframes):
            assert decoded(file, index, indices) == {i: expected[i] for i in indices}


@pytest.mark.real
def test_real_keyframes_are_those_that_the_decoder_tells_and_av1_ones_those_of_a_full_decode(real_data, sent):
    paths = [path for folder in ("variants", "wild") for path in sorted((real_data / folder).iterdir())]
    assert len(paths) > 30
    for path in paths:
        with path.open("rb") as file:
            index = video.index_frames(file)
            if index.is_exact:
                with av.open(str(path)) as container:
                    container.streams.video[0].codec_context.skip_frame = "NONKEY"
                    told = [frame.pts for frame in container.decode(video=0) if frame.key_frame]
                assert index.pts[index.keyframes].tolist() == told, path.name
            else:
                assert index.keyframes.tolist() == pyav_keyframes(path)
            if "av1" in path.name and index.num_frames < 200:  # OpenCV's wheel decodes no AV1
                counted = [FramePosition(i, None, 0.0) for i in range(index.num_frames)]
                expected = {frame.index: checksum(frame.rgb) for frame in video.decode_frames(file, counted)}
                sent.clear()
                assert decoded(file, index, index.keyframes) == {i: expected[i] for i in index.keyframes}
                assert sent == index.pts[index.keyframes].tolist()


@pytest.mark.real
def test_real_clips_of_every_kind_give_the_frames_of_opencv(real_data):
    slow = ("8k24fps_300ms.mp4",)
    paths = [path for folder in ("variants", "wild") for path in sorted((real_data / folder).iterdir())]
    paths = [
        path for path in paths if "av1" not in path.name and path.name not in slow
    ]  # OpenCV reads no AV1
    assert len(paths) > 30
    for path in paths:
        check_real(path)


@pytest.mark.real
def test_an_archive_gives_the_frames_of_opencv(real_data):
    paths = sorted((real_data / "archive").rglob("*.mp4"))
    for path in paths[::12]:
        check_real(path)


@pytest.mark.real
def test_no_whole_real_video_is_said_to_be_truncated_or_damaged(real_data):
    for folder in ("archive", "variants", "wild"):
        for path in sorted((real_data / folder).rglob("*.*")):
            if path.suffix != ".json":
                with path.open("rb") as file:
                    assert video.index_frames(file).fault is None, path.name


@pytest.mark.real
@pytest.mark.parametrize("name", ODD_KINDS)
def test_an_odd_real_file_has_the_expected_outcome(real_data, name):
    path = next((real_data / "odd").rglob(name))
    kind = None
    frames = {}
    with path.open("rb") as file:
        try:
            facts, index = video.probe(file), video.index_frames(file)
            positions = index.positions(range(0, index.num_frames, int(facts.fps or 0) + 1))
            for frame in video.decode_frames(file, positions):
                frames[frame.index] = checksum(frame.rgb)
        except VideoError as error:
            kind = error.kind
    assert kind == ODD_KINDS[name]
    if frames:
        expected, count = opencv_frames(path, set(frames))
        assert expected == {i: frames[i] for i in frames if i < count}
