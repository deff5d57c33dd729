"""A file object that fails: an error of the storage, never of the video."""

import io

import pytest

from dfd_core.errors import (
    VideoError,
    VideoStorageError,
)
from dfd_core.video import reader as video
from dfd_core.video.index import FramePosition
from tests.video.clips import encode
from tests.video.reference import indexed


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
