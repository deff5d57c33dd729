"""The work of one run: which videos are still to be planned, and the list of the present manifest's segments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.run.database import database
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import ATTEMPTS, FACE_RUN, MANIFEST, REQUEST, SEGMENT, VIDEOS, to_table
from dfd_core.storage.address import Address
from dfd_core.storage.files import exists
from dfd_core.storage.tables import dataset, dataset_of_file, read_table, replace_table, write_table

_LARGEST_BLOCK_ROWS = 256
_LEAST_BLOCK_FOOTAGE_S, _MOST_BLOCK_FOOTAGE_S = 600.0, 3600.0
_BLOCKS_OF_A_RUN = 1000
_BLOCKS_PER_CPU = 8
_BLOCK_PICTURES = 512
_READS_OF_A_GROUP = 32
_BATCH_ROWS = 50_000
_OF_RUN = [name for name in FACE_RUN.names if name not in SEGMENT.names]


@dataclass(frozen=True, slots=True)
class Worklist:
    """What there is to do.

    Attributes:
        num_videos: Rows of the manifest.
        num_unopened: Videos that the plan refused; they are done.
        num_segments: Segments of all videos.
        num_committed: Segments that an earlier run has done.
        done_videos: Videos of which an earlier run has done every segment, or that have none.
        open_segments: For each video with more than one segment left, by `plan_key`, how many are left.
        footage_s: Seconds of video that are left.
        block_rows: Segments that one task takes.
        address: Where the segments that are left are listed.
    """

    num_videos: int
    num_unopened: int
    num_segments: int
    num_committed: int
    done_videos: int
    open_segments: dict[str, int]
    footage_s: float
    block_rows: int
    address: Address

    @property
    def num_open(self) -> int:
        """Segments left to do."""
        return self.num_segments - self.num_committed


def with_attempts(
    out: OutputFolder, manifest: pa.Table, *, retry_kinds: frozenset[str], derivation: int
) -> pa.Table:
    """Return `manifest` with the keys of the videos that were tried again, now or earlier, renewed.

    A new `plan_key` is a new version of the video: it is planned and scored anew, and what its old version left in the
    log no longer counts.

    Args:
        out: The output folder; remembers how often each video was tried again.
        manifest: MANIFEST and the user's own columns.
        retry_kinds: The kinds of error whose videos are tried again now.
        derivation: How often `videos/` was derived. What failed in one derivation is tried again once: the same command
            after an interruption goes on with the retries that it began.
    """
    attempts = _read_attempts(out)
    if retry_kinds:
        for video_id in _failed_videos(out, retry_kinds):
            number, last = attempts.get(video_id, (0, None))
            if last != derivation:
                attempts[video_id] = number + 1, derivation
        _write_attempts(out, attempts)
    if not attempts:
        return manifest
    pairs = zip(manifest.column("plan_key").to_pylist(), manifest.column("video_id").to_pylist(), strict=True)
    keys = [f"{key}.{attempts[video_id][0]}" if video_id in attempts else key for key, video_id in pairs]
    position = manifest.schema.get_field_index("plan_key")
    return manifest.set_column(position, manifest.schema.field(position), pa.array(keys, pa.string()))


def _failed_videos(out: OutputFolder, kinds: frozenset[str]) -> list[str]:
    videos = dataset(out.videos, pa.schema([VIDEOS.field("video_id"), VIDEOS.field("error_kind")]))
    found: list[str] = (
        videos.to_table(filter=pc.field("error_kind").isin(sorted(kinds))).column("video_id").to_pylist()
    )
    return found


def _read_attempts(out: OutputFolder) -> dict[str, tuple[int, int | None]]:
    """Return how often each video was tried again, and for which derivation last."""
    if not exists(out.attempts):
        return {}
    rows = read_table(out.attempts).to_pylist()
    return {row["video_id"]: (row["attempt"], row.get("derivation")) for row in rows}


def _write_attempts(out: OutputFolder, attempts: dict[str, tuple[int, int | None]]) -> None:
    rows = [
        {"video_id": video_id, "attempt": number, "derivation": derivation}
        for video_id, (number, derivation) in attempts.items()
    ]
    write_table(out.attempts, to_table(rows, ATTEMPTS))


def write_manifest(out: OutputFolder, table: pa.Table) -> None:
    """Write the manifest that this run reads.

    Raises:
        OutputError: It cannot be written.
    """
    write_table(out.manifest, table)


def unplanned(out: OutputFolder) -> pa.Table:
    """Return the videos (REQUEST) of the manifest that have no committed plan."""
    videos = read_table(out.manifest, REQUEST.names)
    planned = out.plan_log.committed()
    return videos.filter(pc.invert(pc.is_in(videos.column("plan_key"), value_set=planned)))


def list_segments(out: OutputFolder, *, num_cpus: int, runs: pa.Table | None = None) -> Worklist:
    """Write the segments of the present manifest and return what of them is left to do.

    Long segments are dealt out over the blocks like cards, so that blocks cost about the same and the last ones to finish
    are short. Within a block the shortest come first, so that the model has something to do soon. What a resumed run has
    left is written once more, beside.

    Args:
        out: The output folder; every video of its manifest is planned.
        num_cpus: CPUs that share the work.
        runs: Where the pictures of the segments are (`sources.pictures.runs.RUNS`), if the source is pictures. They are then
            listed in the order in which they are stored, as FACE_RUN, and one task takes more of them.
    """
    with database() as db:
        db.register("manifest", dataset_of_file(out.manifest, MANIFEST))
        out.plan_log.register(db, "plans")
        db.register(
            "committed",
            pa.table({"segment_id": out.segment_log.committed()}),
        )
        db.execute(
            """CREATE TEMP VIEW cut AS
            SELECT manifest_row, plan_key, uri, fps, duration_s, unnest(segments) AS segment,
                   generate_subscripts(segments, 1) - 1 AS position,
                   plan_key || '-' || printf('%05d', position) AS segment_id
            FROM manifest JOIN plans USING (plan_key)"""
        )
        db.execute("CREATE TEMP VIEW left_over AS SELECT * FROM cut ANTI JOIN committed USING (segment_id)")
        if runs is not None:
            db.register("runs", runs)
        num_segments, num_open, footage_s = _one(db, _TOTALS)
        largest = _segments_of_footage(num_open, footage_s) if runs is None else _segments_of_pictures(runs)
        block_rows = max(1, min(largest, num_open // (max(1, num_cpus) * _BLOCKS_PER_CPU)))
        schema, listed = (SEGMENT, _segments) if runs is None else (FACE_RUN, _face_runs)
        replace_table(out.segment_list, listed(db, "cut", math.ceil(num_segments / block_rows)), schema)
        if num_open < num_segments:
            blocks = math.ceil(num_open / block_rows)
            replace_table(out.open_segments, listed(db, "left_over", blocks), schema)
        return _worklist(db, out, num_segments, num_open, footage_s, block_rows)


_TOTALS = """
    SELECT (SELECT coalesce(sum(len(segments)), 0) FROM manifest JOIN plans USING (plan_key)),
           count(*), coalesce(sum(coalesce(segment.end_s, duration_s, 0) - segment.start_s), 0)
    FROM left_over"""


def _segments_of_footage(num_segments: int, footage_s: float) -> int:
    """Return how many segments a task takes at most: a thousandth of the footage, which is what a lost task costs."""
    if footage_s <= 0:
        return _LARGEST_BLOCK_ROWS
    # Each block costs the driver some milliseconds, which with many of them is what limits the size of a cluster.
    block_s = min(max(footage_s / _BLOCKS_OF_A_RUN, _LEAST_BLOCK_FOOTAGE_S), _MOST_BLOCK_FOOTAGE_S)
    return max(1, min(_LARGEST_BLOCK_ROWS, int(block_s * num_segments / footage_s)))


def _segments_of_pictures(runs: pa.Table) -> int:
    """Return how many segments hold a block's pictures, or more, so that no row group is read too often."""
    num_pictures = max(1, pc.sum(runs.column("num_frames")).as_py() or 0)
    largest_group = pc.max(runs.column("group_rows")).as_py() or 0
    return max(int(_BLOCK_PICTURES * runs.num_rows // num_pictures), int(largest_group // _READS_OF_A_GROUP))


def _face_runs(db: duckdb.DuckDBPyConnection, source: str, _: int) -> Iterator[pa.Table]:
    reader = db.sql(
        f"""
        SELECT segment_id, plan_key, uri, fps, duration_s, segment.start_s, segment.end_s, segment.frame_indices,
               segment.frame_pts, segment.frame_times_s, {", ".join(f'runs."{name}"' for name in _OF_RUN)}
        FROM {source} JOIN runs USING (plan_key, position) ORDER BY runs."table", first_row
        """
    ).to_arrow_reader(_BATCH_ROWS)
    for batch in reader:
        yield pa.Table.from_batches([batch]).cast(FACE_RUN)


def _segments(db: duckdb.DuckDBPyConnection, source: str, num_blocks: int) -> Iterator[pa.Table]:
    reader = db.sql(
        f"""
        WITH ranked AS (
            SELECT *, row_number() OVER (
                ORDER BY coalesce(segment.end_s, duration_s, 0) - segment.start_s DESC, manifest_row, position) - 1 AS rank
            FROM {source})
        SELECT segment_id, plan_key, uri, fps, duration_s,
               segment.start_s, segment.end_s, segment.frame_indices, segment.frame_pts, segment.frame_times_s
        FROM ranked ORDER BY rank % {max(1, num_blocks)}, rank DESC
        """
    ).to_arrow_reader(_BATCH_ROWS)
    for batch in reader:
        yield pa.Table.from_batches([batch]).cast(SEGMENT)


def _worklist(
    db: duckdb.DuckDBPyConnection,
    out: OutputFolder,
    num_segments: int,
    num_open: int,
    footage_s: float,
    block_rows: int,
) -> Worklist:
    num_videos, num_unopened, num_unfinished = _one(
        db,
        """
        SELECT (SELECT count(*) FROM manifest),
               (SELECT count(*) FROM manifest JOIN plans USING (plan_key) WHERE len(segments) = 0),
               (SELECT count(DISTINCT plan_key) FROM left_over)
        """,
    )
    several = db.sql("SELECT plan_key, count(*) FROM left_over GROUP BY 1 HAVING count(*) > 1").fetchall()
    return Worklist(
        num_videos=num_videos,
        num_unopened=num_unopened,
        num_segments=num_segments,
        num_committed=num_segments - num_open,
        done_videos=num_videos - num_unfinished,
        open_segments=dict(several),
        footage_s=footage_s,
        block_rows=block_rows,
        address=out.segment_list if num_open == num_segments else out.open_segments,
    )


def _one(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    return tuple(db.sql(query).fetchall()[0])
