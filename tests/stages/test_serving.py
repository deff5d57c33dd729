"""A remote video, whose bytes the parent reads for a child that has no network."""

import io

import fsspec
import pytest

from dfd_core.config import ExtractConfig
from dfd_core.stages import plan
from dfd_core.stages.sandbox import Sandbox
from dfd_core.storage.range_file import RangeFile
from dfd_core.video.opening import open_video
from tests import hostile

ADDRESS = "memory://served/clip.mp4"

pytestmark = pytest.mark.timeout(120)


class FailingRanges(RangeFile):
    """A remote file whose reads fail once `num_good` of them have succeeded."""

    num_good = 0

    def read(self, size=-1):
        self.num_good -= 1
        if self.num_good < 0:
            raise OSError(5, "an address with a secret")
        return super().read(size)


def failing(uri):
    content = fsspec.filesystem("memory").cat("/served/clip.mp4")

    class Source(io.BytesIO):
        def size(self):
            return len(content)

        def read_at(self, size, offset):
            return content[offset : offset + size]

    file = FailingRanges(Source(content))
    file.num_good = 1
    return file


def segment_of(uri):
    segment = {"segment_id": "s", "plan_key": "k", "uri": str(uri), "fps": 25.0, "duration_s": 3.0}
    return segment | plan.WHOLE_VIDEO.as_row()


@pytest.fixture
def remote(clip_folder):
    content = (clip_folder / "good_a.mp4").read_bytes()
    fsspec.filesystem("memory").pipe("/served/clip.mp4", content)
    yield ADDRESS
    fsspec.filesystem("memory").rm("/served/clip.mp4")


def test_the_faces_of_a_remote_video_are_those_of_the_local_one(remote, clip_folder):
    sandbox = Sandbox(ExtractConfig(), open_video=open_video, detect=hostile.Detector())
    here, there = (sandbox.extract(segment_of(uri)) for uri in (clip_folder / "good_a.mp4", remote))
    planned = sandbox.plan({"plan_key": "k", "uri": remote})
    sandbox.close()
    assert here["error_kind"] is None
    assert len(there["faces"]) == 3
    assert there["faces"] == here["faces"]
    assert planned["duration_s"] == 3.0


def test_a_storage_that_fails_in_the_middle_is_not_the_videos_fault(remote, monkeypatch):
    monkeypatch.setattr("dfd_core.video.opening.time.sleep", lambda _: None)
    sandbox = Sandbox(ExtractConfig(), open_video=failing, detect=hostile.Detector())
    row = sandbox.extract(segment_of(remote))
    sandbox.close()
    assert row["error_kind"] == "storage"
    assert row["error_message"].endswith("Input/output error")
    assert "secret" not in row["error_message"]
