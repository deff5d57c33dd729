"""Broken videos: what can be read is right, and the rest has its error."""

import io
import random

import av
import pytest

from dfd_core.errors import (
    VideoDamagedError,
    VideoError,
    VideoTruncatedError,
    VideoUndecodableError,
)
from dfd_core.video import reader as video
from dfd_core.video.index import FramePosition
from tests.video.clips import NUM_FRAMES
from tests.video.reference import checksum, decoded, indexed, opencv_frames


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
