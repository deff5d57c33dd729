"""Real clips, held to OpenCV's loop, and real odd files, held to their errors."""

import av
import pytest

from dfd_core.errors import (
    VideoError,
)
from dfd_core.video import reader as video
from dfd_core.video.index import FramePosition
from tests.video.reference import checksum, decoded, opencv_fps, opencv_frames, pyav_keyframes

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
