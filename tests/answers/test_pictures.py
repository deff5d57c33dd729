import pyarrow.parquet as pq

from dfd_core.answers.aggregate import finish
from dfd_core.config import Aggregation
from dfd_core.schemas import PICTURES
from tests.answers.test_aggregate import make, plan_row, result_row

SIZE = {"width": 8, "height": 8, "left": 2, "top": 2, "right": 6, "bottom": 6}


def with_pictures(row, *, of=None):
    faces = [face for face in row["faces"] if of is None or face["frame_index"] in of]
    kept = [
        {"frame_index": face["frame_index"], "face_index": face["face_index"], **SIZE}
        | {
            "jpeg": f"{face['frame_index']}/{face['face_index']}".encode(),
            "occlusion": [0.5] if face["face_index"] else None,
        }
        for face in faces
    ]
    return row | {"pictures": kept}


def pictures(out, keep):
    finish(out, aggregation=Aggregation(), threshold=0.5, model_id="m", keep_faces=keep)
    table = pq.read_table(out.pictures.path)
    assert table.schema.equals(PICTURES)
    return table.to_pylist()


def test_a_video_keeps_the_most_and_the_least_suspicious_faces_of_its_track(tmp_path):
    scores = {frame * 25: [p] for frame, p in enumerate([0.5, 0.9, 0.1, 0.8, 0.2, 0.6])}
    out = make(tmp_path, [plan_row("a", 1)], [with_pictures(result_row("a", 0, scores))])
    found = pictures(out, 4)
    assert [(row["kind"], round(row["p_fake"], 2), row["jpeg"]) for row in found] == [
        ("most", 0.9, b"25/0"),
        ("least", 0.1, b"50/0"),
        ("most", 0.8, b"75/0"),
        ("least", 0.2, b"100/0"),
    ]
    assert {row["track_id"] for row in found} == {0}
    assert [row["time_s"] for row in found] == [1.0, 2.0, 3.0, 4.0]


def test_what_two_segments_kept_is_one_choice_and_a_video_without_faces_has_none(tmp_path):
    rows = [
        with_pictures(result_row("a", 0, {0: [0.9], 25: [0.2]})),
        with_pictures(result_row("a", 1, {50: [0.95], 75: [0.1]})),
        with_pictures(result_row("b", 0, {})),
    ]
    out = make(tmp_path, [plan_row("a", 2), plan_row("b", 1)], rows)
    assert [(row["video_id"], row["jpeg"]) for row in pictures(out, 2)] == [
        ("v/a", b"50/0"),
        ("v/a", b"75/0"),
    ]


def test_a_run_without_pictures_has_an_empty_table(tmp_path):
    out = make(tmp_path, [plan_row("a", 1)], [result_row("a", 0, {0: [0.9]})])
    assert pictures(out, 6) == []


def test_a_single_face_is_the_most_suspicious_one_once(tmp_path):
    out = make(tmp_path, [plan_row("a", 1)], [with_pictures(result_row("a", 0, {0: [0.9]}))])
    assert [row["kind"] for row in pictures(out, 6)] == ["most"]
