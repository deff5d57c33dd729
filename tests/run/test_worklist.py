import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfd_core.run import worklist
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import MANIFEST, SEGMENT, VIDEO_PLAN, VIDEOS, to_table
from dfd_core.storage.tables import write_table
from tests.answers.test_aggregate import plan_row


@pytest.fixture
def out(tmp_path):
    return OutputFolder.at(str(tmp_path))


def write_manifest(out, keys):
    rows = [
        {
            "manifest_row": n,
            "video_id": f"v/{key}",
            "uri": key,
            "plan_key": key,
            "size_bytes": None,
            "modified_ns": None,
        }
        for n, key in enumerate(keys)
    ]
    worklist.write_manifest(out, to_table(rows, MANIFEST))


def commit(out, stage, column, ids):
    log = {"plan": out.plan_log, "segments": out.segment_log}[stage]
    write_table(log.checkpoint / f"{len(ids)}.parquet", pa.table({column: pa.array(ids, pa.string())}))


def with_durations(out, durations):
    rows = [plan_row(key, 1) | {"duration_s": seconds} for key, seconds in durations.items()]
    write_manifest(out, list(durations))
    write_table(out.plan_log.data / "a-0.parquet", to_table(rows, VIDEO_PLAN))
    write_table(out.plan_log.checkpoint / "a.parquet", pa.table({"plan_key": list(durations)}))


def test_only_videos_without_a_committed_plan_are_to_be_planned(out):
    write_manifest(out, ["a", "b", "c"])
    assert worklist.unplanned(out).num_rows == 3
    commit(out, "plan", "plan_key", ["a", "c", "gone"])
    assert worklist.unplanned(out).num_rows == 1


def test_the_list_has_every_segment_once_and_the_long_ones_are_dealt_out(out):
    with_durations(out, {f"k{n:03d}": float(n + 1) for n in range(64)})
    work = worklist.list_segments(out, num_cpus=2)
    listed = pq.read_table(out.segment_list.path)
    assert listed.schema.equals(SEGMENT)
    assert work.block_rows == 4
    keys = listed.column("plan_key").to_pylist()
    assert sorted(keys) == [f"k{n:03d}" for n in range(64)]
    seconds = listed.column("duration_s").to_pylist()
    blocks = [sum(seconds[n : n + 4]) for n in range(0, 64, 4)]
    assert blocks == sorted(blocks, reverse=True)
    assert max(blocks) - min(blocks) < max(seconds)  # by less than the longest video
    assert seconds[:4] == sorted(seconds[:4])  # what is short first, so that something goes on soon
    assert seconds[3] == 64.0
    assert work.footage_s == sum(range(1, 65))


@pytest.mark.parametrize(
    ("segments", "cpus", "duration_s", "rows"),
    [
        (1, 64, 10.0, 1),
        (45, 2, 10.0, 2),
        (100, 64, 10.0, 1),
        (60_000, 2, 10.0, 60),  # ten minutes
        (90_000, 2, 10.0, 90),  # a thousandth
        (90_000, 2, 60.0, 60),  # an hour
        (90_000, 64, 10.0, 90),
        (90_000, 640, 10.0, 17),  # eight for each CPU
        (90_000, 2, 0.1, 256),
    ],
)
def test_blocks_are_small_enough_to_share_and_to_lose(out, segments, cpus, duration_s, rows):
    with_durations(out, {f"k{n}": duration_s for n in range(segments)})
    assert worklist.list_segments(out, num_cpus=cpus).block_rows == rows


def test_what_is_done_is_counted_by_segment_and_by_video(out):
    rows = [plan_row("a", 3), plan_row("b", 1), plan_row("c", 0, error="empty"), plan_row("d", 1)]
    write_manifest(out, ["a", "b", "c", "d"])
    write_table(out.plan_log.data / "a-0.parquet", to_table(rows, VIDEO_PLAN))
    write_table(out.plan_log.checkpoint / "a.parquet", pa.table({"plan_key": ["a", "b", "c", "d"]}))
    commit(out, "segments", "segment_id", ["a-00000", "b-00000"])
    work = worklist.list_segments(out, num_cpus=2)
    assert (work.num_videos, work.num_unopened, work.num_segments, work.num_committed, work.num_open) == (
        4,
        1,
        5,
        2,
        3,
    )
    assert work.done_videos == 2
    assert work.open_segments == {"a": 2}
    listed = pq.read_table(work.address.path)
    assert listed.schema.equals(SEGMENT)
    assert sorted(listed.column("segment_id").to_pylist()) == ["a-00001", "a-00002", "d-00000"]
    assert pq.read_table(out.segment_list.path).num_rows == 5


def test_trying_again_gives_new_keys_to_the_named_kinds_only_and_remembers_them(out):
    rows = [
        dict.fromkeys(VIDEOS.names)
        | {"video_id": f"v/{key}", "uri": key, "status": "failed", "model_id": "m", "error_kind": kind}
        for key, kind in (("a", "timeout"), ("b", "damaged"), ("c", None))
    ]
    write_table(out.videos / "a.parquet", to_table(rows, VIDEOS))
    write_manifest(out, ["a", "b", "c"])
    manifest = pq.read_table(out.manifest.path)

    def keys(*kinds, derivation=1):
        table = worklist.with_attempts(out, manifest, retry_kinds=frozenset(kinds), derivation=derivation)
        return table.column("plan_key").to_pylist()

    assert keys() == ["a", "b", "c"]
    assert keys("timeout", "crashed") == ["a.1", "b", "c"]
    assert keys() == ["a.1", "b", "c"]
    assert keys("timeout", "crashed") == ["a.1", "b", "c"]  # the same command goes on
    assert keys("timeout", "damaged") == ["a.1", "b.1", "c"]
    assert keys("timeout", derivation=2) == ["a.2", "b.1", "c"]


def test_attempts_of_before_derivations_were_counted_are_kept(out):
    write_table(out.attempts, pa.table({"video_id": ["v/a"], "attempt": pa.array([3], pa.int32())}))
    write_manifest(out, ["a"])
    table = worklist.with_attempts(
        out, pq.read_table(out.manifest.path), retry_kinds=frozenset(), derivation=1
    )
    assert table.column("plan_key").to_pylist() == ["a.3"]
