"""Sources of videos as a whole."""

import pytest

from dfd_core.errors import ManifestError, RequestError
from dfd_core.sources.videos import read_videos
from tests.video_lists import ids


def test_a_file_is_one_video(folder):
    assert ids(read_videos(str(folder / "b.mp4"))) == ["b.mp4"]


def test_a_pattern_in_the_name_of_a_bucket_is_refused_in_one_line():
    with pytest.raises(RequestError, match="no address"):
        read_videos("s3://bucket-[ab]/*.mp4")
    with pytest.raises(ManifestError, match="pattern below a bucket"):
        read_videos("memory://*/a.mp4")


def test_an_address_with_credentials_is_refused_without_repeating_them():
    with pytest.raises(RequestError) as refusal:
        read_videos("s3://AKIA:hunter2@bucket/videos")
    assert "hunter2" not in str(refusal.value)


def test_a_changed_file_has_another_key(folder):
    before = read_videos(str(folder)).table.column("plan_key").to_pylist()
    (folder / "b.mp4").write_bytes(b"longer")
    after = read_videos(str(folder)).table.column("plan_key").to_pylist()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]
