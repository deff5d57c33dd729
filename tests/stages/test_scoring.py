import time

import numpy as np
import pyarrow as pa
import pytest

from dfd_core.schemas import SECONDS, SEGMENT_RESULT, face_crops, to_table
from dfd_core.stages.scoring import score_segments

CROP_PX = 4


def segment(name, levels, error=None, waited_s=0.0):
    """A segment with one face a level; every pixel of a face has its level."""
    faces = [
        {
            "frame_index": number,
            "time_s": number / 25,
            "face_index": 0,
            "left": 0,
            "top": 0,
            "right": 9,
            "bottom": 9,
            "detector_confidence": 0.5,
            "crop": bytes([level]) * (CROP_PX * CROP_PX * 3),
        }
        for number, level in enumerate(levels)
    ]
    return {
        "segment_id": name,
        "plan_key": name,
        "num_frames_wanted": len(levels),
        "num_frames": len(levels),
        "error_kind": error,
        "error_message": error,
        "extract_seconds": {step.name: 0.0 for step in SECONDS},
        "extract_cpu_seconds": {step.name: 0.0 for step in SECONDS},
        "extracted_at": time.time() - waited_s,
        "num_shots": 1,
        "frame_hashes": [7],
        "faces": faces,
    }


def brightness(crops):
    assert crops.dtype == np.uint8
    assert crops.shape[1:] == (CROP_PX, CROP_PX, 3)
    return (crops.mean(axis=(1, 2, 3)) / 255).astype(np.float32)


def scored(*segments, predict=brightness):
    table = to_table(segments, face_crops(CROP_PX))
    return score_segments(table, predict, crop_px=CROP_PX)


def with_pictures(row):
    """The segment, each face with a picture whose file names it."""
    box = {"left": 1, "top": 1, "right": 3, "bottom": 3}
    faces = [
        face | {"picture": {"width": 4, "height": 4, **box, "jpeg": f"{row['segment_id']}{place}".encode()}}
        for place, face in enumerate(row["faces"])
    ]
    return row | {"faces": faces}


def p_fake(table):
    return [[face["p_fake"] for face in faces] for faces in table.column("faces").to_pylist()]


def test_each_segment_gets_its_own_faces_scores_in_order():
    table = scored(segment("a", [0, 255]), segment("b", []), segment("c", [51, 102, 204]))
    assert table.schema.equals(SEGMENT_RESULT)
    assert p_fake(table) == [pytest.approx([0, 1]), [], pytest.approx([0.2, 0.4, 0.8])]
    assert table.column("segment_id").to_pylist() == ["a", "b", "c"]


def test_the_seconds_of_waiting_and_of_the_model_are_told():
    def slow(crops):
        until_s = time.process_time() + 0.2
        while time.process_time() < until_s:
            pass
        return brightness(crops)

    table = scored(segment("a", [0], waited_s=5.0), segment("b", [1], waited_s=-60.0), predict=slow)
    waited_s, other_s = table.column("queue_s").to_pylist()
    assert 5.0 <= waited_s < 6.0
    assert other_s == 0.0  # the clock of another node is ahead
    assert sum(table.column("infer_cpu_s").to_pylist()) == pytest.approx(0.2, abs=0.1)
    assert sum(table.column("infer_s").to_pylist()) > 0.19  # longer where others use the core


def test_a_part_of_a_table_is_scored_as_the_part_it_is():
    whole = to_table(
        [segment("a", [255, 0]), segment("b", [51]), segment("c", [102, 204])], face_crops(CROP_PX)
    )
    part = score_segments(whole.slice(1), brightness, crop_px=CROP_PX)
    assert p_fake(part) == [pytest.approx([0.2]), pytest.approx([0.4, 0.8])]


def test_several_chunks_are_one_table():
    parts = [
        to_table([segment(name, [level])], face_crops(CROP_PX)) for name, level in (("a", 51), ("b", 255))
    ]
    table = score_segments(pa.concat_tables(parts), brightness, crop_px=CROP_PX)
    assert p_fake(table) == [pytest.approx([0.2]), pytest.approx([1.0])]


def test_segments_without_a_face_need_no_model():
    table = scored(
        segment("a", []),
        segment("b", [], error="damaged"),
        predict=lambda crops: np.zeros(len(crops), np.float32),
    )
    assert p_fake(table) == [[], []]
    assert table.column("error_kind").to_pylist() == [None, "damaged"]


def test_no_segments_give_no_rows():
    assert scored().num_rows == 0


def test_a_face_without_a_number_is_said_and_never_made_up():
    def broken(crops):
        scores = brightness(crops)
        scores[scores > 0.9] = np.nan
        return scores

    table = scored(segment("a", [0, 255, 51]), segment("b", [102]), segment("c", [255, 255]), predict=broken)
    assert p_fake(table) == [pytest.approx([0, 0.2]), pytest.approx([0.4]), []]
    assert table.column("error_kind").to_pylist() == ["unscorable", None, "unscorable"]
    assert "2 of the faces" in table.column("error_message").to_pylist()[2]


@pytest.mark.parametrize("explain", [False, True])
def test_each_segment_keeps_its_own_most_and_least_suspicious_pictures(explain):
    rows = [
        with_pictures(segment("a", [0, 255, 102])),
        with_pictures(segment("b", [])),
        with_pictures(segment("c", [51])),
    ]
    table = score_segments(
        to_table(rows, face_crops(CROP_PX, pictures=True)),
        brightness,
        crop_px=CROP_PX,
        keep_faces=2,
        explain=explain,
    )
    assert table.schema.equals(SEGMENT_RESULT)
    kept = table.column("pictures").to_pylist()
    assert [[picture["jpeg"] for picture in of] for of in kept] == [[b"a0", b"a1"], [], [b"c0"]]
    assert [picture["frame_index"] for picture in kept[0]] == [0, 1]
    lengths = {len(picture["occlusion"] or []) for of in kept for picture in of}
    assert lengths == ({49} if explain else {0})
