import pyarrow as pa
import pytest

from dfd_core.schemas import SECONDS, SEGMENT_RESULT, VIDEOS, check, face_crops, to_table

THING = pa.schema([pa.field("name", pa.string(), nullable=False), pa.field("size", pa.int32())])


def test_rows_become_a_table_of_exactly_the_schema():
    table = to_table([{"name": "a", "size": None}, {"name": "b", "size": 2}], THING)
    assert table.schema.equals(THING)
    assert table.to_pylist() == [{"name": "a", "size": None}, {"name": "b", "size": 2}]


def test_no_rows_keep_the_schema():
    assert to_table([], THING).schema.equals(THING)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"name": "a"}, "lacks \\['size'\\]"),
        ({"name": "a", "size": 1, "colour": 2}, "adds \\['colour'\\]"),
        ({"name": None, "size": 1}, "value in every 'name'"),
    ],
)
def test_a_row_that_breaks_the_schema_is_refused(row, complaint):
    with pytest.raises(ValueError, match=complaint):
        to_table([row], THING)


def test_a_null_inside_a_list_of_structs_is_refused():
    face = dict.fromkeys(("frame_index", "face_index", "left", "top", "right", "bottom"), 0)
    face |= {"time_s": 0.0, "detector_confidence": None, "p_fake": 0.5}
    row = {
        "segment_id": "s",
        "plan_key": "k",
        "num_frames_wanted": 1,
        "num_frames": 1,
        "error_kind": None,
        "error_message": None,
        "extract_seconds": {step.name: 0.0 for step in SECONDS},
        "extract_cpu_seconds": {step.name: 0.0 for step in SECONDS},
        "extracted_at": 0.0,
        "num_shots": 1,
        "frame_hashes": [7],
        "queue_s": 0.0,
        "infer_s": 0.0,
        "infer_cpu_s": 0.0,
        "faces": [face],
        "pictures": None,
    }
    with pytest.raises(ValueError, match="detector_confidence"):
        to_table([row], SEGMENT_RESULT)


def test_a_table_of_another_schema_is_refused():
    with pytest.raises(ValueError, match="Expected schema"):
        check(pa.table({"name": ["a"]}), THING)


def test_crops_have_the_size_of_their_model():
    assert face_crops(96).field("faces").type.value_type.field("crop").type.byte_width == 96 * 96 * 3


def test_the_contract_of_videos_holds():
    required = [field.name for field in VIDEOS if not field.nullable]
    assert required == ["video_id", "uri", "status", "model_id"]
    assert VIDEOS.field("p_fake").type == pa.float32()
