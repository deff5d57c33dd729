"""Sources of videos as a whole."""

import pytest

from dfd_core.errors import ManifestError, RequestError
from dfd_core.sources.read import read_source
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


@pytest.mark.parametrize(
    "source", ["local:///etc", "zip://a.mp4::/data/x.zip", "reference://x", "simplecache::memory://x"]
)
def test_a_source_of_no_known_storage_is_refused(source):
    with pytest.raises(RequestError, match="No storage is known"):
        read_source(source)


def test_a_web_source_is_refused_unless_it_is_allowed():
    with pytest.raises(RequestError, match="--allow-http"):
        read_source("http://127.0.0.1:9/a.mp4")
    with pytest.raises(ManifestError):
        read_source("http://127.0.0.1:9/a.mp4", allow_http=True)
