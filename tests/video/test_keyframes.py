"""Keyframes: found without decoding, decoded alone, held to OpenCV's loop."""

import contextlib
import io

import av
import pytest

from dfd_core.errors import (
    VideoDamagedError,
)
from dfd_core.video import reader as video
from dfd_core.video.index import FramePosition
from tests.video.clips import CLIPS, encode, ordinary_priority, x264
from tests.video.reference import checksum, decoded, opencv_frames, pyav_frames, pyav_keyframes


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
        path = encode(tmp_path / name, "libsvtav1", options={"preset": "12"}, context={"gop_size": 15})
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
