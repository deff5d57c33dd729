"""`finish` held to a reference written in plain Python over the same rows."""

import shutil
import statistics

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.answers import face_pass
from dfd_core.answers.aggregate import finish
from dfd_core.config import Aggregation
from dfd_core.errors import OutputError
from dfd_core.run import worklist
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import (
    FACES,
    MANIFEST,
    SECONDS,
    SEGMENT_RESULT,
    SPANS,
    TRACKS,
    VIDEO_PLAN,
    VIDEOS,
    to_table,
)
from dfd_core.storage.tables import read_table, write_table
from tests.answers.face_rows import face, looks

THRESHOLD = 0.6


def plan_row(key, num_segments, error=None):
    segment = {"start_s": 0.0, "end_s": None, "frame_indices": None, "frame_pts": None, "frame_times_s": None}
    return {
        "plan_key": key,
        "fps": 25.0,
        "duration_s": 10.0,
        "width": 640,
        "height": 480,
        "error_kind": error,
        "error_message": error and "it broke",
        "probe_s": 0.5,
        "probe_cpu_s": 0.25,
        "segments": [segment | {"start_s": float(i)} for i in range(num_segments)],
    }


def result_row(key, position, scores, *, num_frames=None, error=None):
    """`scores` maps a frame index to the scores of its faces."""
    faces = [
        {
            "frame_index": frame,
            "time_s": frame / 25,
            "face_index": number,
            "left": 1,
            "top": 2,
            "right": 30,
            "bottom": 40,
            "detector_confidence": 0.9,
            "p_fake": p_fake,
        }
        for frame, found in scores.items()
        for number, p_fake in enumerate(found)
    ]
    num_frames = len(scores) if num_frames is None else num_frames
    return {
        "segment_id": f"{key}-{position:05d}",
        "plan_key": key,
        "num_frames_wanted": num_frames,
        "num_frames": num_frames,
        "error_kind": error,
        "error_message": error and "part of it broke",
        "extract_seconds": {step.name: float(n) for n, step in enumerate(SECONDS, 1)},
        "extract_cpu_seconds": {step.name: n / 4 for n, step in enumerate(SECONDS, 1)},
        "extracted_at": 0.0,
        "num_shots": 1,
        "frame_hashes": [7],
        "queue_s": 0.5,
        "infer_s": 0.25,
        "infer_cpu_s": 0.125,
        "faces": faces,
        "pictures": None,
    }


def make(tmp_path, plans, results, *, own=None):
    out = OutputFolder.at(str(tmp_path))
    keys = list(dict.fromkeys(row["plan_key"] for row in plans))
    rows = [
        {"manifest_row": i, "video_id": f"v/{key}", "uri": f"/videos/{key}", "plan_key": key, "size_bytes": 1, "modified_ns": 1}
        for i, key in enumerate(keys)
    ]  # fmt: skip
    manifest = to_table(rows, MANIFEST)
    for name, values in (own or {}).items():
        manifest = manifest.append_column(name, values)
    write_table(out.manifest, manifest)
    write_table(out.plan_log.data / "a-0.parquet", to_table(plans, VIDEO_PLAN))
    write_table(out.plan_log.checkpoint / "a.parquet", pa.table({"plan_key": keys}))
    for position, row in enumerate(results):
        table = to_table([row], SEGMENT_RESULT)
        write_table(out.segment_log.data / f"{position}-0.parquet", table)
        write_table(out.segment_log.checkpoint / f"{position}.parquet", table.select(["segment_id"]))
    worklist.list_segments(out, num_cpus=2)
    return out


def read(folder):
    return pq.read_table(folder.path).to_pylist()


def finished(out, aggregation="mean"):
    return finish(out, aggregation=Aggregation.parse(aggregation), threshold=THRESHOLD, model_id="m@1")


REFERENCE = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "max": max,
    "topk:2": lambda values: statistics.fmean(sorted(values)[-2:]),
    "topk:99": statistics.fmean,
}


@pytest.mark.parametrize("slice_rows", [1, 50, 10_000])
@pytest.mark.parametrize("aggregation", REFERENCE)
def test_a_video_is_the_aggregate_of_its_frames_and_a_frame_its_highest_face(
    tmp_path, aggregation, slice_rows, monkeypatch
):
    monkeypatch.setattr(face_pass, "_SLICE_ROWS", slice_rows)
    monkeypatch.setattr(face_pass, "_BATCH_ROWS", 20)
    random = np.random.default_rng(3)
    scores = {
        key: {
            int(f): random.random(random.integers(1, 4)).astype(np.float32).tolist()
            for f in range(0, 300, 26)
        }
        for key in "abcdefgh"
    }
    plans = [plan_row(key, 2) for key in scores]
    halves = [
        ({f: s for f, s in v.items() if f < 150}, {f: s for f, s in v.items() if f >= 150})
        for v in scores.values()
    ]
    results = [
        result_row(key, part, half[part]) for key, half in zip(scores, halves, strict=True) for part in (1, 0)
    ]
    out = make(tmp_path, plans, results)
    counts = finished(out, aggregation)
    for row, (key, frames) in zip(read(out.videos), scores.items(), strict=True):
        expected = REFERENCE[aggregation]([max(found) for found in frames.values()])
        assert row["video_id"] == f"v/{key}"
        assert row["p_fake"] == pytest.approx(expected, abs=1e-7)
        assert row["verdict"] == ("fake" if row["p_fake"] >= np.float32(THRESHOLD) else "real")
        assert (row["status"], row["num_frames"]) == ("scored", len(frames))
        assert row["num_faces"] == sum(map(len, frames.values()))
    assert counts.videos == {"scored": 8, "no_face": 0, "partial": 0, "failed": 0}
    assert counts.stage_s == {
        "probe": 4.0,
        "seek": 16.0,
        "decode": 32.0,
        "convert": 48.0,
        "detect": 64.0,
        "crop": 80.0,
        "queue": 8.0,
        "infer": 4.0,
    }
    assert counts.stage_cpu_s == {
        "probe": 2.0,
        "seek": 4.0,
        "decode": 8.0,
        "convert": 12.0,
        "detect": 16.0,
        "crop": 20.0,
        "infer": 2.0,
    }


def test_every_status_and_none_of_them_scores_what_is_not_known(tmp_path):
    plans = [plan_row("scored", 1), plan_row("noface", 1), plan_row("partial", 2), plan_row("lost", 1)]
    plans += [plan_row("unopened", 0, error="not_a_video"), plan_row("half", 1)]
    results = [
        result_row("scored", 0, {0: [0.9]}),
        result_row("noface", 0, {}, num_frames=4),
        result_row("partial", 0, {0: [0.2]}),
        result_row("partial", 1, {}, num_frames=0, error="timeout"),
        result_row("lost", 0, {}, num_frames=0, error="undecodable"),
        result_row("half", 0, {}, num_frames=3, error="truncated"),
    ]
    out = make(tmp_path, plans, results)
    counts = finished(out)
    rows = {row["video_id"].removeprefix("v/"): row for row in read(out.videos)}
    assert {key: row["status"] for key, row in rows.items()} == {
        "scored": "scored",
        "noface": "no_face",
        "partial": "partial",
        "lost": "failed",
        "unopened": "failed",
        "half": "failed",  # the face may be in the part that is missing
    }
    assert [key for key, row in rows.items() if row["p_fake"] is not None] == ["scored", "partial"]
    assert [key for key, row in rows.items() if row["verdict"] is not None] == ["scored", "partial"]
    assert rows["partial"]["error_kind"] == "timeout"
    assert "1 of 2 segments" in rows["partial"]["error_message"]
    assert rows["noface"]["error_kind"] is None
    assert counts.error_kinds == {"not_a_video": 1, "timeout": 1, "truncated": 1, "undecodable": 1}


def test_faces_come_in_the_manifests_order_and_in_one_schema(tmp_path):
    plans = [plan_row("b", 1), plan_row("a", 2)]
    results = [
        result_row("a", 1, {50: [0.1]}),
        result_row("a", 0, {0: [0.2, 0.3]}),
        result_row("b", 0, {7: [0.4]}),
    ]
    out = make(tmp_path, plans, results)
    finished(out)
    assert pq.read_schema(f"{out.faces}/part-00000.parquet").equals(FACES)
    found = [(row["video_id"], row["frame_index"], row["face_index"]) for row in read(out.faces)]
    assert found == [("v/b", 7, 0), ("v/a", 0, 0), ("v/a", 0, 1), ("v/a", 50, 0)]


def test_the_manifests_own_columns_are_carried_unchanged(tmp_path):
    own = {
        "label": pa.array(["real", None]),
        "year": pa.array([7, None], pa.int8()),
        "tags": pa.array([["a"], []], pa.list_(pa.string())),
        "when": pa.array([1, 2], pa.timestamp("ms", "Europe/Paris")),
    }
    out = make(tmp_path, [plan_row("a", 0, error="empty"), plan_row("b", 0, error="empty")], [], own=own)
    finished(out)
    table = read_table(out.videos)
    assert table.schema.names == [*VIDEOS.names, *own]
    for name, values in own.items():
        assert table.schema.field(name).type == values.type
        assert table.column(name).to_pylist() == values.to_pylist()


def test_an_archive_without_a_face_has_tables_of_the_same_schema(tmp_path):
    out = make(tmp_path, [plan_row("a", 1)], [result_row("a", 0, {}, num_frames=2)])
    finished(out)
    assert read_table(out.faces).schema.equals(FACES)
    assert pq.read_schema(f"{out.videos}/part-00000.parquet").field("p_fake").type == pa.float32()


def test_an_unfinished_log_is_not_made_into_tables(tmp_path):
    out = make(tmp_path, [plan_row("a", 2)], [result_row("a", 0, {0: [0.5]})])
    with pytest.raises(OutputError, match="1 segments are not done"):
        finished(out)


def test_a_segment_that_was_committed_twice_counts_once(tmp_path):
    out = make(tmp_path, [plan_row("a", 1)], [result_row("a", 0, {0: [0.5]})] * 2)
    finished(out)
    assert [row["num_faces"] for row in read(out.videos)] == [1]
    assert len(read(out.faces)) == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_of_a_segment_that_was_committed_with_an_error_and_without_the_good_row_counts(tmp_path, is_first):
    rows = [result_row("a", 0, {}, error="timeout"), result_row("a", 0, {0: [0.5]})]
    out = make(tmp_path, [plan_row("a", 1)], rows if is_first else rows[::-1])
    finished(out)
    assert [(row["status"], row["error_kind"]) for row in read(out.videos)] == [("scored", None)]
    assert [row["p_fake"] for row in read(out.faces)] == [0.5]


def test_plans_whose_segments_were_never_listed_are_not_made_into_tables(tmp_path):
    out = make(tmp_path, [plan_row("a", 1), plan_row("b", 2)], [])
    shutil.rmtree(out.segment_list.path)
    with pytest.raises(OutputError, match="3 segments are not done"):
        finished(out)


def test_a_data_file_without_its_commit_does_not_count(tmp_path):
    out = make(tmp_path, [plan_row("a", 1)], [result_row("a", 0, {0: [0.5]})])
    orphan = to_table([result_row("a", 0, {0: [0.9], 26: [0.9]})], SEGMENT_RESULT)
    write_table(out.segment_log.data / "orphan-0.parquet", orphan)
    finished(out)
    assert [row["p_fake"] for row in read(out.videos)] == [0.5]


def test_results_of_an_older_version_of_a_video_do_not_count(tmp_path):
    results = [result_row("a", 0, {0: [0.5]}), result_row("older", 0, {0: [0.9]})]
    out = make(tmp_path, [plan_row("a", 1)], results)
    finished(out)
    assert [row["p_fake"] for row in read(out.videos)] == [0.5]
    assert len(read(out.faces)) == 1


def test_finishing_twice_gives_the_same_bytes(tmp_path):
    results = [result_row("a", part, {part * 100 + f: [f / 97] for f in range(40)}) for part in range(3)]
    out = make(tmp_path, [plan_row("a", 3)], results)
    finished(out)
    before = (read_table(out.videos), read_table(out.faces))
    finished(out)
    assert before[0].equals(read_table(out.videos))
    assert before[1].equals(read_table(out.faces))


def test_a_log_of_before_convert_was_measured_is_finished_all_the_same(tmp_path):
    out = make(tmp_path, [plan_row("a", 2)], [result_row("a", part, {part: [0.5]}) for part in (0, 1)])
    plans = read_table(out.plan_log.data / "a-0.parquet").drop_columns(["probe_cpu_s"])
    write_table(out.plan_log.data / "a-0.parquet", plans)
    old = read_table(out.segment_log.data / "0-0.parquet")
    seconds = [dict.fromkeys(("seek_s", "decode_s", "detect_s", "crop_s"), 1.0)]
    old = old.set_column(6, "extract_seconds", pa.array(seconds)).drop_columns(["extract_cpu_seconds"])
    write_table(out.segment_log.data / "0-0.parquet", old.append_column("extract_cpu_s", pa.array([4.0])))
    counts = finished(out)
    assert counts.videos["scored"] == 1
    assert (counts.stage_s["decode"], counts.stage_s["convert"]) == (3.0, 3.0)
    assert (counts.stage_cpu_s["probe"], counts.stage_cpu_s["decode"]) == (0.0, 0.5)


def two_people(frames, scores, shot=0):
    """The first of two people scores 0.1 in every frame, the second `scores`."""
    rows = []
    for frame, score in zip(frames, scores, strict=True):
        rows += [
            face(frame, 0, p_fake=0.1, shot=shot),
            face(frame, 1, x=700, face_index=1, p_fake=score, shot=shot),
        ]
    return [{name: value for name, value in row.items() if name != "video_id"} for row in rows]


def test_people_become_tracks_and_their_suspicious_stretches_spans(tmp_path):
    result = result_row("a", 0, {}, num_frames=6) | {
        "faces": two_people(range(6), [0.1, 0.9, 0.9, 0.9, 0.1, 0.1])
    }
    out = make(tmp_path, [plan_row("a", 1)], [result])
    finished(out)
    assert pq.read_table(str(out.tracks)).schema.equals(TRACKS)
    assert pq.read_table(str(out.spans)).schema.equals(SPANS)
    assert [(row["track_id"], row["num_faces"], row["verdict"]) for row in read(out.tracks)] == [
        (0, 6, "real"),
        (1, 6, "real"),
    ]
    assert [(row["track_id"], row["start_s"], row["end_s"]) for row in read(out.spans)] == [(1, 1.0, 3.0)]
    assert [row["track_id"] for row in read(out.faces)] == [0, 1] * 6


def test_one_altered_person_of_two_is_the_videos_score_by_the_worst_track(tmp_path):
    result = result_row("a", 0, {}, num_frames=5) | {"faces": two_people(range(5), [0.8] * 5)}
    out = make(tmp_path, [plan_row("a", 1), plan_row("b", 1)], [result, result_row("b", 0, {}, num_frames=5)])
    finished(out, "worst-track")
    assert [(row["p_fake"], row["verdict"]) for row in read(out.videos)] == [
        (pytest.approx(0.8), "fake"),
        (None, None),
    ]


def test_shots_are_counted_through_the_segments_of_a_video_and_end_its_tracks(tmp_path):
    parts = [two_people(range(0, 3), [0.5] * 3), two_people(range(3, 6), [0.5] * 3)]
    parts.append(two_people(range(6, 8), [0.5] * 2, shot=1))
    shots = [2, 1, 2]  # the first segment cuts after its last face
    results = [
        result_row("a", n, {}, num_frames=3) | {"faces": part, "num_shots": shots[n]}
        for n, part in enumerate(parts)
    ]
    out = make(tmp_path, [plan_row("a", 3)], results[::-1])
    finished(out)
    assert [row["shot"] for row in read(out.faces)] == [0] * 6 + [1] * 6 + [2] * 4
    assert [row["track_id"] for row in read(out.faces)] == [0, 1] * 3 + [2, 3] * 3 + [4, 5] * 2


@pytest.mark.parametrize("slice_rows", [1, 7, 10_000])
def test_tracks_are_the_same_however_the_faces_are_sliced(tmp_path, slice_rows, monkeypatch):
    monkeypatch.setattr(face_pass, "_SLICE_ROWS", slice_rows)
    monkeypatch.setattr(face_pass, "_BATCH_ROWS", 3)
    results = [result_row(key, 0, {}) | {"faces": two_people(range(4), [0.9] * 4)} for key in "abc"]
    out = make(tmp_path, [plan_row(key, 1) for key in "abc"], results)
    finished(out)
    assert [(row["video_id"], row["track_id"]) for row in read(out.tracks)] == [
        (f"v/{key}", track) for key in "abc" for track in (0, 1)
    ]
    assert [row["track_id"] for row in read(out.spans)] == [1, 1, 1]


def test_a_log_of_before_there_were_tracks_has_some_by_place_and_size(tmp_path):
    result = result_row("a", 0, {}, num_frames=4) | {"faces": two_people(range(4), [0.9] * 4)}
    out = make(tmp_path, [plan_row("a", 1)], [result])
    path = f"{out.segment_log.data}/0-0.parquet"
    row = pq.read_table(path).drop_columns(["num_shots", "frame_hashes"]).to_pylist()[0]
    row["faces"] = [
        {name: value for name, value in face.items() if name not in ("shot", "appearance")}
        for face in row["faces"]
    ]
    pq.write_table(pa.Table.from_pylist([row]), path)
    finished(out)
    assert [row["num_faces"] for row in read(out.tracks)] == [4, 4]
    assert {row["shot"] for row in read(out.faces)} == {None}


def test_appearances_do_not_leave_the_log(tmp_path):
    result = result_row("a", 0, {}) | {"faces": two_people([0], [0.5])}
    out = make(tmp_path, [plan_row("a", 1)], [result])
    finished(out)
    assert looks(0) == result["faces"][0]["appearance"]
    assert "appearance" not in pq.read_table(str(out.faces)).column_names
