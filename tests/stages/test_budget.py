"""Videos that ask for more work than they are worth end as `too_expensive`, with what was done until then."""

import pytest

from dfd_core.config import ExtractConfig, Limits, Sampling
from dfd_core.errors import RequestError, SandboxError
from dfd_core.schemas import face_crops, to_table
from dfd_core.stages import plan
from dfd_core.stages.extract import extract_segment
from dfd_core.stages.probe import plan_video
from dfd_core.stages.sandbox import Sandbox, confine
from tests import hostile
from tests.clips import faceless_frames, write_clip


def extract(path, config, detect):
    segment = {"segment_id": "s", "plan_key": "k", "uri": str(path), "fps": 25.0, "duration_s": 3.0}
    row = extract_segment(segment | plan.WHOLE_VIDEO.as_row(), config, detect)
    to_table([row], face_crops(config.crop_px))
    return row


def test_pixels_beyond_what_the_bytes_account_for_end_the_segment(clip_folder):
    config = ExtractConfig(sampling=Sampling.parse("interval:0.04"), limits=Limits(max_pixels_per_byte=4))
    row = extract(clip_folder / "good_a.mp4", config, hostile.Detector())
    assert row["error_kind"] == "too_expensive"
    assert "pixels for each byte" in row["error_message"]
    num_bytes = (clip_folder / "good_a.mp4").stat().st_size
    assert row["num_frames"] == len(row["faces"]) == int(4 * (num_bytes + 500_000) / (320 * 240))
    assert row["num_frames_wanted"] == 75


def test_a_plan_of_too_many_pixels_is_refused_before_a_frame_is_decoded(tmp_path):
    clip = write_clip(tmp_path / "long.mp4", faceless_frames(200))
    config = ExtractConfig(
        sampling=Sampling.parse("interval:0.04"), segment_s=2.0, limits=Limits(max_pixels_per_byte=1)
    )
    row = plan_video({"plan_key": "k", "uri": str(clip)}, config)
    assert (row["error_kind"], row["segments"]) == ("too_expensive", [])


def test_cpu_seconds_beyond_the_limit_end_the_segment(clip_folder):
    config = ExtractConfig(sampling=Sampling.parse("interval:0.04"), limits=Limits(max_cpu_s=1.0))
    row = extract(clip_folder / "good_a.mp4", config, hostile.Slow())
    assert row["error_kind"] == "too_expensive"
    assert 3 <= row["num_frames"] <= 6
    assert len(row["faces"]) == row["num_frames"]


@pytest.mark.timeout(120)
def test_a_child_that_does_not_keep_its_limit_of_cpu_seconds_is_ended(clip_folder, monkeypatch):
    monkeypatch.setattr("dfd_core.stages.sandbox.watch._GRACE_S", 0.0)
    limits = Limits(max_cpu_s=0.5, timeout_floor_s=100)
    sandbox = Sandbox(ExtractConfig(limits=limits), open_video=hostile.open_video, detect=hostile.Detector())
    segment = {"segment_id": "s", "plan_key": "k", "uri": "hostile:spin", "fps": 25.0, "duration_s": 3.0}
    row = sandbox.extract(segment | plan.WHOLE_VIDEO.as_row())
    sandbox.close()
    assert (row["error_kind"], row["error_message"]) == (
        "too_expensive",
        "The segment took more than 0.5 CPU seconds",
    )


def test_a_real_video_is_far_from_the_limits(clip_folder):
    row = extract(clip_folder / "good_a.mp4", ExtractConfig(), hostile.Detector())
    assert row["error_kind"] is None


def test_a_sandbox_that_is_off_says_so(clip_folder):
    config = ExtractConfig(limits=Limits(sandbox="off"))
    sandbox = Sandbox(config)
    assert sandbox.confinement() == {"level": "off"}
    assert sandbox.plan({"plan_key": "k", "uri": str(clip_folder / "good_a.mp4")})["error_kind"] is None
    sandbox.close()


def test_a_sandbox_that_is_required_is_full_or_refused():
    sandbox = Sandbox(ExtractConfig(limits=Limits(sandbox="require")))
    try:
        assert sandbox.confinement()["level"] == "full"
    except SandboxError as refusal:
        assert "cannot confine" in str(refusal)
    sandbox.close()


def test_a_sandbox_of_another_name_is_refused():
    with pytest.raises(RequestError, match="auto, require, off"):
        Limits(sandbox="perhaps")


@pytest.mark.parametrize(
    ("layers", "level"),
    [
        ({"seccomp": True, "landlock": 7, "capabilities_dropped": True}, "full"),
        ({"seccomp": True, "landlock": 0, "capabilities_dropped": True}, "filtered"),
        ({"seccomp": False, "landlock": 7, "capabilities_dropped": True}, "limits"),
        ({"seccomp": True, "landlock": 7, "capabilities_dropped": False}, "limits"),
    ],
)
def test_the_level_is_that_of_the_layers(layers, level):
    assert confine._level(layers) == level
