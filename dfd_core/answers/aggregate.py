"""STAGE 3, finish: the user's tables from the committed segments. Opens no video; can be run again.

Frame score = the highest `p_fake` of the frame's faces. Video score = an aggregation over the frames with a face, or over the tracks.
The joins and groupings run in DuckDB, which spills to disk. The faces pass through once, whole videos at a time, and become tracks, spans and
scores on the way. So the size of the archive is not bounded by memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from dfd_core.answers.pictures import write_pictures
from dfd_core.answers.spans import spans_of
from dfd_core.answers.tracks import tracks_of, with_tracks, worst_scores
from dfd_core.answers.verdicts import VerdictRule, with_verdicts
from dfd_core.config import Aggregation
from dfd_core.errors import OutputError
from dfd_core.run.counts import Counts
from dfd_core.run.database import database
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import (
    FACE_VIDEOS,
    FACES,
    MANIFEST,
    SEGMENT,
    SEGMENT_RESULT,
    SPANS,
    TRACKS,
    VIDEOS,
    check,
)
from dfd_core.step_clock import STEPS
from dfd_core.storage.tables import dataset, dataset_of_file, read_schema, read_table, replace_table

STATUSES = ("scored", "no_face", "partial", "failed")
_BATCH_ROWS = 50_000
_SLICE_ROWS = 100_000
_MEASURES = ["side_px", "sharpness", "brightness", "blockiness"]
_FRAME = ["video_id", "frame_index", "p_fake", *_MEASURES]
_UNTRACKED = pa.schema(
    [
        *(field for field in FACES if field.name != "track_id"),
        pa.field("appearance", pa.binary()),
    ]
)
_SCORES = pa.schema(
    [
        *(VIDEOS.field(name) for name in ("video_id", "p_fake", *_MEASURES)),
        pa.field("num_scored_frames", pa.int64()),
    ]
)


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
            pq.ParquetWriter(aside["scores"], _SCORES) as scores,
            pq.ParquetWriter(aside["tracks"], TRACKS) as tracks,
            pq.ParquetWriter(aside["spans"], SPANS) as spans,
        ):
            answers = _Answers(db.cursor(), aggregation, rule, scores=scores, tracks=tracks, spans=spans)
            replace_table(out.faces, answers.passed_on(_whole_videos(_faces(db))), FACES)
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


@contextmanager
def connect(out: OutputFolder, results_schema: pa.Schema) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a database with the views `manifest`, `plans`, `listed` and `results`, the last two by segment.

    Args:
        out: The output folder.
        results_schema: What is read of the segment log.

    Raises:
        OutputError: The log is incomplete.
    """
    with database() as db:
        db.register("manifest", dataset_of_file(out.manifest, MANIFEST))
        db.register("listed", dataset(out.segment_list, SEGMENT))
        out.plan_log.register(db, "plans")
        out.segment_log.register(db, "results", results_schema)
        _refuse_incomplete(db)
        yield db


def own_columns(manifest: pa.Schema) -> list[pa.Field]:
    """Return the fields of a manifest that are the user's own."""
    return [field for field in manifest if field.name not in MANIFEST.names]


def read_own_columns(out: OutputFolder) -> pa.Table:
    """Return the user's own columns of the manifest that the run reads, a row a video; no rows if there are none."""
    return read_table(out.manifest, [field.name for field in own_columns(read_schema(out.manifest))])


def _refuse_incomplete(db: duckdb.DuckDBPyConnection) -> None:
    unplanned, missing = _one(
        db,
        """
        SELECT (SELECT count(*) FROM manifest ANTI JOIN plans USING (plan_key)),
               (SELECT coalesce(sum(len(segments)), 0) FROM manifest JOIN plans USING (plan_key))
               - (SELECT count(*) FROM listed SEMI JOIN results USING (segment_id) SEMI JOIN manifest USING (plan_key))
        """,
    )
    if unplanned or missing:
        raise OutputError(
            f"The run is not complete: {unplanned} videos are not planned and {missing} segments are not done. "
            "The command that filled the folder completes it."
        )


def _one(db: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    return tuple(db.sql(query).fetchall()[0])


def _faces(db: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
    """Yield the faces (`_UNTRACKED`) by video, frame and face; shots are numbered within the video."""
    names = ", ".join(
        "face.shot + coalesce(shots_before, 0) AS shot" if name == "shot" else f"face.{name}"
        for name in _UNTRACKED.names
        if name != "video_id"
    )
    reader = db.sql(
        f"""
        WITH several AS (
            SELECT segment_id, sum(coalesce(num_shots, 1) - 1) OVER (
                PARTITION BY plan_key ORDER BY segment_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )::INTEGER AS shots_before
            FROM results SEMI JOIN listed USING (segment_id)
            WHERE plan_key IN (SELECT plan_key FROM plans WHERE len(segments) > 1))
        SELECT video_id, {names}
        FROM (SELECT manifest_row, video_id, shots_before, unnest(faces) AS face
              FROM results SEMI JOIN listed USING (segment_id) JOIN manifest USING (plan_key)
                   LEFT JOIN several USING (segment_id))
        ORDER BY manifest_row, face.frame_index, face.face_index
        """
    ).to_arrow_reader(_BATCH_ROWS)
    for batch in reader:
        yield check(pa.Table.from_batches([batch]).cast(_UNTRACKED), _UNTRACKED)


def _whole_videos(faces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield `faces` again in tables of whole videos, each of about `_SLICE_ROWS` rows: what is held is bounded by that or by one video."""
    held = _UNTRACKED.empty_table()
    for table in faces:
        held = pa.concat_tables([held, table])
        if held.num_rows >= _SLICE_ROWS:
            begun = pc.index(held.column("video_id"), held.column("video_id")[-1]).as_py()
            if begun:
                yield held.slice(0, begun)
                held = held.slice(begun)
    if held.num_rows:
        yield held


_OF_FRAMES = {
    "mean": "list_avg(p)",
    "worst-track": "list_avg(p)",  # of a video with one track
    "median": "list_median(p)",
    "max": "list_max(p)",
    "topk": "list_avg(list_slice(list_reverse_sort(p), 1, {k}))",
}


class _Answers:
    """What is written beside the faces while they pass: the score of each video, its tracks and their spans."""

    def __init__(
        self,
        db: duckdb.DuckDBPyConnection,
        aggregation: Aggregation,
        rule: VerdictRule,
        *,
        scores: pq.ParquetWriter,
        tracks: pq.ParquetWriter,
        spans: pq.ParquetWriter,
    ) -> None:
        self._db = db
        self._aggregation = aggregation
        self._rule = rule
        self._scores, self._tracks, self._spans = scores, tracks, spans

    def passed_on(self, videos: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield the faces (FACES) of whole videos (`_UNTRACKED`), with their tracks."""
        for untracked in videos:
            faces = with_tracks(untracked)
            tracks = with_verdicts(_with_measures(tracks_of(faces), faces), self._rule)
            self._tracks.write_table(tracks.select(TRACKS.names).cast(TRACKS))
            self._spans.write_table(
                spans_of(
                    faces, threshold_low=self._rule.threshold_low, threshold_high=self._rule.threshold_high
                )
            )
            self._scores.write_table(_scores(self._db, faces.select(_FRAME), tracks, self._aggregation))
            yield faces


def _with_measures(tracks: pa.Table, faces: pa.Table) -> pa.Table:
    """Return `tracks` with the medians of their faces' quality, for their verdicts."""
    keys = ["video_id", "track_id"]
    medians = faces.select([*keys, *_MEASURES]).to_pandas().groupby(keys, sort=False)[_MEASURES].median()
    wanted = pd.MultiIndex.from_frame(tracks.select(keys).to_pandas())
    found = medians.reindex(wanted)
    for name in _MEASURES:
        tracks = tracks.append_column(name, pa.array(found[name].to_numpy(), pa.float32(), from_pandas=True))
    return tracks.append_column("num_scored_frames", tracks.column("num_frames"))


def _scores(
    db: duckdb.DuckDBPyConnection, frames: pa.Table, tracks: pa.Table, aggregation: Aggregation
) -> pa.Table:
    """Return a row of `_SCORES` for each video of `frames`, whose tracks are `tracks`."""
    of_frames = _OF_FRAMES[aggregation.kind].format(k=aggregation.k)
    medians = ", ".join(f"median({name})::FLOAT AS {name}" for name in _MEASURES)
    db.register("frames", frames)
    db.register("worst", worst_scores(tracks if aggregation.kind == "worst-track" else tracks.slice(0, 0)))
    # The frames are listed in their order before they are averaged: a sum in any order is not the same number twice.
    scores = db.sql(
        f"""
        WITH scores AS (
            SELECT video_id, list(p ORDER BY frame_index) AS p FROM (
                SELECT video_id, frame_index, max(p_fake)::DOUBLE AS p FROM frames GROUP BY ALL)
            GROUP BY video_id),
        measures AS (SELECT video_id, {medians} FROM frames GROUP BY video_id)
        SELECT video_id, coalesce(worst.p_fake, {of_frames}::FLOAT) AS p_fake, {", ".join(_MEASURES)},
               len(p) AS num_scored_frames
        FROM scores JOIN measures USING (video_id) LEFT JOIN worst USING (video_id)
        """
    )
    return scores.to_arrow_table().cast(_SCORES)


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
        joined AS (
            SELECT manifest_row, plan_key, video_id, uri, size_bytes, fps, duration_s, width, height,
                   coalesce(num_frames, 0) AS num_frames, num_wanted, coalesce(num_faces, 0) AS num_faces,
                   num_segments, num_faulty,
                   coalesce(plans.error_kind, decoded.error_kind) AS error_kind,
                   coalesce(plans.error_message, decoded.error_message) AS error_message
            FROM manifest JOIN plans USING (plan_key) LEFT JOIN decoded USING (plan_key))
        SELECT *, CASE WHEN num_faces > 0 AND error_kind IS NULL THEN '{done}'
                       WHEN num_faces > 0 THEN 'partial'
                       WHEN error_kind IS NULL THEN 'no_face'
                       ELSE 'failed' END AS status
        FROM joined"""


def finish_videos(core: pa.Table, own: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return one batch of `videos/`, of `schema` and the manifest's own columns; a message says how much is missing."""
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
    """Return what the tables that have just been written hold."""
    db.register("videos", dataset(out.videos, FACE_VIDEOS))
    found = dict(db.sql("SELECT status, count(*) FROM videos GROUP BY status").fetchall())
    kinds = db.sql(
        "SELECT error_kind, count(*) FROM videos WHERE error_kind IS NOT NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    frames, faces, footage_s = _one(
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
    """Return the sums of `columns` by their names; the first one is of the plans, the others are of the results."""
    of_plans, *of_results = (f"coalesce(sum({column}), 0)" for column in columns.values())
    sums = db.sql(
        f"""SELECT (SELECT {of_plans} FROM plans SEMI JOIN manifest USING (plan_key)), {", ".join(of_results)}
            FROM results SEMI JOIN listed USING (segment_id)"""
    ).fetchall()[0]
    return {name: round(float(value), 3) for name, value in zip(columns, sums, strict=True)}
