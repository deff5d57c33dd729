"""STAGE 3, finish: the user's tables from the committed segments. Opens no video; can be run again.

Frame score = the highest `p_fake` of the frame's faces. Video score = an aggregation over the frames with a face, or over the tracks.
Joins and groupings run in DuckDB, which spills to disk, and the faces pass through once (`face_pass`). So memory does not limit the archive.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from dfd_core.answers.face_pass import SCORES, Answers, read_faces, whole_videos
from dfd_core.answers.log_views import connect, one_row, read_own_columns
from dfd_core.answers.pictures import write_pictures
from dfd_core.answers.verdicts import VerdictRule, with_verdicts
from dfd_core.config import Aggregation
from dfd_core.run.counts import Counts
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import (
    FACE_VIDEOS,
    FACES,
    SEGMENT_RESULT,
    SPANS,
    TRACKS,
    VIDEOS,
    check,
)
from dfd_core.step_clock import STEPS
from dfd_core.storage.tables import dataset, replace_table

STATUSES = ("scored", "no_face", "partial", "failed")
_BATCH_ROWS = 50_000


def finish(
    out: OutputFolder,
    *,
    aggregation: Aggregation,
    threshold: float,
    model_id: str,
    rule: VerdictRule | None = None,
    keep_faces: int = 0,
) -> Counts:
    """Write `faces/`, `tracks/`, `spans/`, `pictures/` and `videos/` from the committed segments and return what they hold.

    Args:
        out: The output folder.
        aggregation: How a video's faces become one number.
        threshold: `p_fake` from which the verdict is `fake`, where there is no `rule`.
        model_id: Goes into every row.
        rule: How scores become verdicts; None for `threshold` alone.
        keep_faces: Pictures of a video in `pictures/`, of those that the segments kept.

    Raises:
        OutputError: The log is damaged or incomplete, or the tables cannot be written.
    """
    rule = rule or VerdictRule.single(threshold)
    with connect(out, SEGMENT_RESULT) as db, tempfile.TemporaryDirectory(prefix="dfd-scores-") as folder:
        aside = {name: os.path.join(folder, f"{name}.parquet") for name in ("scores", "tracks", "spans")}
        with (
            pq.ParquetWriter(aside["scores"], SCORES) as scores,
            pq.ParquetWriter(aside["tracks"], TRACKS) as tracks,
            pq.ParquetWriter(aside["spans"], SPANS) as spans,
        ):
            answers = Answers(db.cursor(), aggregation, rule, scores=scores, tracks=tracks, spans=spans)
            replace_table(out.faces, answers.passed_on(whole_videos(read_faces(db))), FACES)
        replace_table(out.tracks, _batches(aside["tracks"]), TRACKS)
        replace_table(out.spans, _batches(aside["spans"]), SPANS)
        write_pictures(db, out.pictures, faces=out.faces, tracks=out.tracks, keep=keep_faces)
        db.register("scores", ds.dataset(aside["scores"]))
        own = read_own_columns(out)
        schema = pa.schema([*VIDEOS, *own.schema])
        replace_table(out.videos, _videos(db, own, rule, model_id), schema)
        return counts(db, out, STATUSES)


def _batches(path: str) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS):
            yield pa.Table.from_batches([batch])


def _videos(
    db: duckdb.DuckDBPyConnection, own: pa.Table, rule: VerdictRule, model_id: str
) -> Iterator[pa.Table]:
    joined = db.sql(
        f"""
        SELECT videos.*, scores.* EXCLUDE (video_id),
               CASE WHEN videos.num_frames > 0 THEN coalesce(num_scored_frames, 0) / videos.num_frames END AS face_share,
               8 * size_bytes / nullif(duration_s * fps * width * height, 0) AS bits_per_pixel
        FROM ({videos_query("scored", num_faces="len(faces)")}) AS videos LEFT JOIN scores USING (video_id)
        ORDER BY manifest_row
        """
    )
    for batch in joined.to_arrow_reader(_BATCH_ROWS):
        core = with_verdicts(pa.Table.from_batches([batch]), rule)
        core = core.append_column("model_id", pa.array([model_id] * core.num_rows, pa.string()))
        yield finish_videos(core, own, VIDEOS)


def videos_query(done: str, *, num_faces: str) -> str:
    """Return the query for one row per manifest row: the plan's facts and the sums over its segments.

    Args:
        done: The status of a video that has faces and no error.
        num_faces: An expression for a segment's number of faces.
    """
    return f"""
        WITH decoded AS (
            SELECT plan_key, sum(num_frames) AS num_frames, sum(num_frames_wanted) AS num_wanted,
                   sum({num_faces}) AS num_faces, count(*) AS num_segments, count(error_kind) AS num_faulty,
                   arg_min(error_kind, segment_id) AS error_kind, arg_min(error_message, segment_id) AS error_message
            FROM results SEMI JOIN listed USING (segment_id) GROUP BY plan_key),
        hashed AS (SELECT plan_key, min(sha256) AS sha256, min(etag) AS etag FROM hashes GROUP BY plan_key),
        joined AS (
            SELECT manifest_row, plan_key, video_id, uri, size_bytes, sha256, etag,
                   strftime(make_timestamp(modified_ns // 1000), '%Y-%m-%dT%H:%M:%S.%fZ') AS modified_at, fps, duration_s, width, height,
                   coalesce(num_frames, 0) AS num_frames, num_wanted, coalesce(num_faces, 0) AS num_faces,
                   num_segments, num_faulty,
                   coalesce(plans.error_kind, decoded.error_kind) AS error_kind,
                   coalesce(plans.error_message, decoded.error_message) AS error_message
            FROM manifest JOIN plans USING (plan_key) LEFT JOIN decoded USING (plan_key)
            LEFT JOIN hashed USING (plan_key))
        SELECT *, CASE WHEN num_faces > 0 AND error_kind IS NULL THEN '{done}'
                       WHEN num_faces > 0 THEN 'partial'
                       WHEN error_kind IS NULL THEN 'no_face'
                       ELSE 'failed' END AS status
        FROM joined"""


def finish_videos(core: pa.Table, own: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return one batch of `videos/`: `schema` and the manifest's own columns. An error message says how many segments it affects."""
    own = own.take(core.column("manifest_row"))
    columns = {name: core.column(name) for name in core.column_names} | {"error_message": _with_share(core)}
    core = pa.Table.from_arrays([columns[name] for name in schema.names], names=schema.names).cast(schema)
    for field in own.schema:
        core = core.append_column(field, own.column(field.name))
    return check(core, pa.schema([*schema, *own.schema]))


def _with_share(core: pa.Table) -> pa.Array:
    rows = zip(
        *(
            core.column(name).to_pylist()
            for name in ("error_message", "num_segments", "num_faulty", "error_kind")
        ),
        strict=True,
    )
    return pa.array(
        [
            f"{message} ({faulty} of {segments} segments affected)"
            if kind and faulty and segments > 1
            else message
            for message, segments, faulty, kind in rows
        ],
        pa.string(),
    )


def counts(db: duckdb.DuckDBPyConnection, out: OutputFolder, statuses: Sequence[str]) -> Counts:
    """Return the counts of the tables that were just written."""
    db.register("videos", dataset(out.videos, FACE_VIDEOS))
    found = dict(db.sql("SELECT status, count(*) FROM videos GROUP BY status").fetchall())
    kinds = db.sql(
        "SELECT error_kind, count(*) FROM videos WHERE error_kind IS NOT NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    frames, faces, footage_s = one_row(
        db,
        """SELECT coalesce(sum(num_frames), 0), coalesce(sum(num_faces), 0),
                  coalesce(sum(duration_s) FILTER (status <> 'failed'), 0) FROM videos""",
    )
    by_status = {status: found.get(status, 0) for status in statuses}
    return Counts(by_status, dict(kinds), frames, faces, footage_s, *_stage_seconds(db))


def _stage_seconds(db: duckdb.DuckDBPyConnection) -> tuple[dict[str, float], dict[str, float]]:
    """Return the wall-clock and the CPU seconds of each stage."""
    wall = {"probe": "probe_s", **{str(step): f"extract_seconds.{step}_s" for step in STEPS}}
    cpu = {"probe": "probe_cpu_s", **{str(step): f"extract_cpu_seconds.{step}_s" for step in STEPS}}
    if "infer_s" in db.table("results").columns:
        wall |= {"queue": "queue_s", "infer": "infer_s"}
        cpu |= {"infer": "infer_cpu_s"}
    return _summed(db, wall), _summed(db, cpu)


def _summed(db: duckdb.DuckDBPyConnection, columns: dict[str, str]) -> dict[str, float]:
    """Return the sums of `columns` by name. The first column belongs to the plans, the others to the results."""
    of_plans, *of_results = (f"coalesce(sum({column}), 0)" for column in columns.values())
    sums = db.sql(
        f"""SELECT (SELECT {of_plans} FROM plans SEMI JOIN manifest USING (plan_key)), {", ".join(of_results)}
            FROM results SEMI JOIN listed USING (segment_id)"""
    ).fetchall()[0]
    return {name: round(float(value), 3) for name, value in zip(columns, sums, strict=True)}
