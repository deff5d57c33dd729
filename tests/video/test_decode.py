"""Exact frames, held to OpenCV's loop."""

import io

import pytest

from dfd_core.video import reader as video
from dfd_core.video.index import FramePosition
from tests.video.clips import (
    CLIPS,
    CLOSED,
    HEIGHT,
    NUM_FRAMES,
    WIDTH,
    almost_still,
    encode,
    flag_as_keyframe,
    ordinary_priority,
    x264,
)
from tests.video.reference import choices, decoded, opencv_fps, opencv_frames, pyav_frames


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
        path = encode(
            tmp_path / name,
            "libsvtav1",
            options={"preset": "12"},
            context={"gop_size": 15},
            on_packet=on_packet,
        )
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


def test_no_wanted_frame_is_no_work():
    assert list(video.decode_frames(io.BytesIO(b""), [])) == []


def test_positions_must_ascend(clip):
    position = FramePosition(3, 3, 0.0)
    with pytest.raises(ValueError, match="ascending"):
        video.decode_frames(io.BytesIO(b""), [position, position])
