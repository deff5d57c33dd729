"""One way in for videos and for pictures of faces."""

from dfd_core.config import ExtractConfig
from dfd_core.schemas import MANIFEST, VIDEO_PLAN, check
from dfd_core.sources.read import read_source
from dfd_core.sources.source import Wanted
from tests.labelled_pictures import rows
from tests.picture_tables import write


def test_videos_are_all_to_be_opened_and_take_any_settings(folder):
    source = read_source(str(folder))
    assert (source.kind, source.content) == ("videos", "3 videos")
    assert source.table.schema.equals(MANIFEST)
    assert (source.plans.num_rows, source.runs) == (0, None)
    assert source.notes == ("2 files are not named like a video and are left out",)
    assert source.extraction(ExtractConfig(segment_s=7.0))["segment_s"] == 7.0
    source.refuse_other(Wanted(0.5, None, 640))


def test_pictures_bring_the_plans_of_their_videos(tmp_path):
    source = read_source(write(tmp_path / "faces.parquet", rows(3)))
    assert (source.kind, source.content) == ("face_table", "Pictures of the faces of 3 videos")
    assert check(source.plans, VIDEO_PLAN).num_rows == 3
    assert source.runs.num_rows == 3
    assert source.extraction(ExtractConfig(crop_px=96)) == {"crop_px": 96, "margin": 0.0}
