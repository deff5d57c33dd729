"""The main job over the real videos: every one a row, every box where an independent loop finds it."""

import os

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dfd_core.errors import ERROR_KINDS
from dfd_core.sources.videos import read_videos
from tests.commands.test_score import MODEL, faces_of, record_of, score, videos_of
from tests.reference import seed_loop

pytestmark = [pytest.mark.real, pytest.mark.ray, pytest.mark.timeout(900)]

REFERENCE_CLIPS = [
    "archive/dfdc/dfdc_train_part_0/brtujopkby.mp4",
    "archive/faceforensics/manipulated_sequences/Deepfakes/c40/videos/720_672.mp4",
    "archive/faceforensics/original_sequences/youtube/c23/videos/004.mp4",
    "archive/faceforensics/original_sequences/youtube/c40/videos/469.mp4",
    "variants/real_ffpp_720__flv1.flv",
    "variants/real_ffpp_720__h264_frag.mp4",
    "variants/real_ffpp_720__hevc.mp4",
    "variants/real_ffpp_720__letterboxed.mp4",
    "variants/real_ffpp_720__mjpeg.avi",
    "variants/real_ffpp_720__mpeg2.mpg",
    "variants/real_ffpp_720__odd_dims_yuv444.mp4",
    "variants/real_ffpp_720__stored_turned_tag90.mp4",
    "variants/real_ffpp_720__stored_turned_tag180.mp4",
    "variants/real_ffpp_720__stored_turned_tag270.mp4",
    "variants/real_ffpp_720__vfr.mkv",
    "variants/real_ffpp_720__vp8.webm",
    "variants/real_ffpp_720__vp9.webm",
    "variants/real_ffpp_720__wmv2.wmv",
    "wild/1.mp4",
    "wild/short_hamilton_clip.mp4",
    "wild/yongen.mp4",
]


@pytest.fixture(scope="module")
def manifest(real_data, tmp_path_factory):
    """Everything odd, wild and re-encoded, and the reference clips of the archive."""
    folders = ("odd", "variants", "wild")
    uris = [
        uri for name in folders for uri in read_videos(str(real_data / name)).table.column("uri").to_pylist()
    ]
    uris += [str(real_data / name) for name in REFERENCE_CLIPS if name.startswith("archive/")]
    ids = [os.path.relpath(uri, real_data) for uri in uris]
    path = tmp_path_factory.mktemp("real") / "manifest.csv"
    pd.DataFrame({"uri": uris, "video_id": ids}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def scored(manifest):
    out = manifest.parent / "out"
    done = score(manifest, "--model", MODEL, "--out", out, timeout=800)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    return out, done


def test_every_video_has_exactly_one_row_and_none_is_a_fault_of_ours(scored, manifest):
    listed = pd.read_csv(manifest).video_id.tolist()
    assert pq.read_table(scored[0] / "videos").column("video_id").to_pylist() == listed
    rows = videos_of(scored[0])
    assert {row["status"] for row in rows.values()} == {"scored", "no_face", "partial", "failed"}
    for row in rows.values():
        assert (row["error_kind"] in ERROR_KINDS) == (row["status"] in ("partial", "failed"))
        assert (row["p_fake"] is not None) == (row["status"] in ("scored", "partial"))
        assert row["error_kind"] not in (
            "unexpected",
            "crashed",
            "timeout",
            "out_of_memory",
            "storage",
            "missing",
        )


def test_the_exit_status_follows_the_rule(scored):
    counts = record_of(scored[0])["counts"]
    assert scored[1].returncode == int(counts["failed"] > 0.5 * counts["videos"])


def test_whole_videos_are_never_called_damaged(scored):
    for video_id, row in videos_of(scored[0]).items():
        if video_id.startswith(("variants/", "wild/", "archive/")):
            assert row["error_kind"] is None, (video_id, row["error_message"])


@pytest.mark.parametrize(
    ("video_id", "kind"),
    [
        ("odd/zero_bytes.mp4", "empty"),
        ("odd/text_inside.mp4", "not_a_video"),
        ("odd/html_inside.mp4", "not_a_video"),
        ("odd/lfs_pointer.mp4", "not_a_video"),
        ("odd/jpeg_inside.mp4", "not_a_video"),
        ("odd/dfdc_no_moov.mp4", "unreadable"),
        ("odd/ffpp_no_moov.mp4", "unreadable"),
    ],
)
def test_what_is_broken_on_purpose_has_its_kind(scored, video_id, kind):
    row = videos_of(scored[0])[video_id]
    assert (row["status"], row["error_kind"]) == ("failed", kind)


@pytest.mark.parametrize("name", ["ffpp_mdat_400_bytes_flipped", "ffpp_mdat_hole_zeroed_20pct"])
def test_a_damaged_payload_is_seen(scored, name):
    row = videos_of(scored[0])[f"odd/{name}.mp4"]
    assert row["status"] in ("partial", "failed")
    assert row["error_kind"] == "damaged"


@pytest.mark.parametrize("video_id", REFERENCE_CLIPS)
def test_the_boxes_are_those_of_the_seeds_loop(scored, real_data, video_id):
    mine = [
        (row["frame_index"], row["left"], row["top"], row["right"], row["bottom"])
        for row in faces_of(scored[0])
        if row["video_id"] == video_id
    ]
    theirs = [(index, *box) for index, box, _ in seed_loop(real_data / video_id)]
    assert mine == theirs
    assert mine
