"""What a run will cost, against totals that are known."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.run import estimate
from dfd_core.run.estimate import Prediction, Quantity, SegmentCost, Stratum
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import MANIFEST, SECONDS, SEGMENT, SEGMENT_RESULT, VIDEO_PLAN, to_table
from dfd_core.storage.tables import replace_table, write_table

NO_SEGMENTS = SEGMENT.empty_table()


def cost(stratum, footage_s, extract_s, *, score_s=0.0, faces=0, size=0.0):
    return SegmentCost(stratum, footage_s, extract_s, extract_s, score_s, faces, size)


def quantity(value):
    return Quantity(value, value, value)


def test_a_strata_of_one_rate_is_carried_over_exactly():
    strata = [Stratum(100, 1000.0, NO_SEGMENTS), Stratum(10, 6000.0, NO_SEGMENTS)]
    costs = [cost(0, 10, 1.0, faces=10), cost(0, 30, 3.0, faces=30), cost(1, 600, 120.0, faces=60)]
    found = estimate.predict(strata, costs)
    assert found.extract_s == pytest.approx(quantity(100.0 + 1200.0))
    assert found.num_faces.value == pytest.approx(1000 + 600)


def test_segments_whose_length_no_header_told_are_carried_over_by_their_number():
    found = estimate.predict([Stratum(50, 0.0, NO_SEGMENTS)], [cost(0, 0.0, 2.0), cost(0, 0.0, 4.0)])
    assert found.extract_s.value == pytest.approx(150.0)


def test_the_interval_holds_the_true_total_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(100):
        lengths = rng.uniform(5, 60, 400)
        seconds = lengths * rng.lognormal(-1.5, 0.5, 400)
        chosen = rng.choice(400, 40, replace=False)
        costs = [cost(0, lengths[i], seconds[i]) for i in chosen]
        found = estimate.predict([Stratum(400, lengths.sum(), NO_SEGMENTS)], costs, seed=trial).extract_s
        assert found.low <= found.value <= found.high
        hits += found.low <= seconds.sum() <= found.high
    assert 78 <= hits <= 100


def test_a_stratum_that_was_not_timed_is_an_error_of_the_caller():
    with pytest.raises(ValueError, match=r"none in \[1\]"):
        estimate.predict([Stratum(1, 1.0, NO_SEGMENTS), Stratum(1, 1.0, NO_SEGMENTS)], [cost(0, 1.0, 1.0)])


def test_the_slower_stage_decides_unless_both_share_the_cpus():
    found = Prediction(*map(quantity, (1200.0, 1100.0, 100.0, 5.0, 1.0)))
    assert found.work_s(num_slots=4, num_actors=1, shares_cpus=False) == quantity(300.0)
    assert found.work_s(num_slots=16, num_actors=1, shares_cpus=False) == quantity(100.0)
    assert found.work_s(num_slots=4, num_actors=1, shares_cpus=True) == quantity(400.0)
    assert found.slots_per_actor == pytest.approx(12.0)


def test_without_a_face_there_is_no_balance():
    assert Prediction(*map(quantity, (10.0, 10.0, 0.0, 0.0, 1.0))).slots_per_actor is None


def planned_folder(tmp_path, videos):
    """Return an output folder whose plan holds `videos`: (width, height, duration_s)."""
    out = OutputFolder.at(str(tmp_path))
    keys = [f"key{number}" for number in range(len(videos))]
    rows = [
        {
            "manifest_row": n,
            "video_id": key,
            "uri": f"/{key}",
            "plan_key": key,
            "size_bytes": 1,
            "modified_ns": 1,
        }
        for n, key in enumerate(keys)
    ]
    write_table(out.manifest, to_table(rows, MANIFEST))
    whole = {"start_s": 0.0, "end_s": None, "frame_indices": None, "frame_pts": None, "frame_times_s": None}
    plans = [
        dict.fromkeys(VIDEO_PLAN.names) | {"plan_key": key, "fps": 25.0, "duration_s": duration_s, "width": width, "height": height, "probe_s": 0.0, "probe_cpu_s": 0.0, "segments": [whole]}
        for key, (width, height, duration_s) in zip(keys, videos, strict=True)
    ]  # fmt: skip
    for folder, name, table in (
        (out.plan_log.data, "a-0", to_table(plans, VIDEO_PLAN)),
        (out.plan_log.checkpoint, "a", pa.table({"plan_key": keys})),
    ):
        write_table(folder / f"{name}.parquet", table)
    segments = [
        {
            "segment_id": f"{key}-00000",
            "plan_key": key,
            "uri": f"/{key}",
            "fps": 25.0,
            "duration_s": video[2],
            **whole,
        }
        for key, video in zip(keys, videos, strict=True)
    ]
    replace_table(out.segment_list, iter([to_table(segments, SEGMENT)]), SEGMENT)
    return out


def test_strata_part_sizes_and_lengths_and_cover_all_that_is_open(tmp_path):
    videos = (
        [(640, 480, 10.0)] * 30 + [(1920, 1080, 10.0)] * 20 + [(1920, 1080, 500.0)] * 5 + [(640, 480, None)]
    )
    out = planned_folder(tmp_path, videos)
    committed = pa.table({"segment_id": ["key0-00000", "key30-00000"]})
    (tmp_path / "checkpoint" / "segments").mkdir(parents=True)
    pq.write_table(committed, (out.segment_log.checkpoint / "done.parquet").path)
    strata = estimate.strata_of(out, most_each=8)
    assert [(stratum.num_segments, stratum.footage_s) for stratum in strata] == [
        (5, 2500.0),
        (19, 190.0),
        (29, 290.0),
        (1, 0.0),
    ]
    assert [stratum.segments.num_rows for stratum in strata] == [5, 8, 8, 1]
    ids = [row for stratum in strata for row in stratum.segments.column("segment_id").to_pylist()]
    assert len(set(ids)) == len(ids)
    assert not {"key0-00000", "key30-00000"} & set(ids)
    assert strata[2].segments.schema == SEGMENT


def test_the_same_segments_are_chosen_each_time(tmp_path):
    out = planned_folder(tmp_path, [(640, 480, 10.0)] * 50)
    first, again = (estimate.strata_of(out, most_each=6)[0].segments for _ in range(2))
    assert first.equals(again)


def results(num_segments, num_faces):
    face = {"frame_index": 1, "time_s": 0.5, "face_index": 0, "left": 3, "top": 4, "right": 80, "bottom": 90}
    rows = [
        {
            **dict.fromkeys(("num_frames_wanted", "num_frames"), 0),
            **{"segment_id": f"s{n}", "plan_key": f"p{n}", "error_kind": None, "error_message": None},
            "extract_seconds": {field.name: 0.1 for field in SECONDS},
            "extract_cpu_seconds": {field.name: 0.08 for field in SECONDS},
            "extracted_at": 0.0,
            "num_shots": 1,
            "frame_hashes": [7],
            "queue_s": 0.0,
            "infer_s": 0.1,
            "infer_cpu_s": 0.1,
            "pictures": None,
            "faces": [
                face | {"detector_confidence": n / 7 + i / 3, "p_fake": 1 / (1 + i + n)}
                for i in range(num_faces)
            ],
        }
        for n in range(num_segments)
    ]
    return to_table(rows, SEGMENT_RESULT)


def test_bytes_are_those_of_the_files(tmp_path):
    table = results(8, 40)
    pq.write_table(table, tmp_path / "data.parquet")
    pq.write_table(table.select(["segment_id"]), tmp_path / "commit.parquet")
    assert estimate.log_bytes(table) == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert 1 < estimate.bytes_per_face([table]) < 100
    assert estimate.bytes_per_face([results(2, 0)]) == 0.0
