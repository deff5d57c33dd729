import pytest

from dfd_core.video import reader as video
from tests.video.clips import CLOSED, encode
from tests.video.reference import decoded, opencv_frames, pyav_frames


@pytest.mark.slow
def test_wide_colours_become_those_of_opencv(tmp_path):
    tags = {"colorspace": 1, "color_primaries": 12, "color_trc": 13, "color_range": 1}  # Display P3
    path = encode(tmp_path / "p3.mp4", "libx264", num_frames=3, options=CLOSED, context=tags)
    expected, _ = opencv_frames(path)
    with path.open("rb") as file:
        assert decoded(file, video.index_frames(file), range(3)) == expected
    assert pyav_frames(path) != expected
