"""Pass the faces of a run from the log to the user's table, whole videos at a time.

Their tracks, the spans of these and the score of each video are written on the way. Memory is bounded by one slice or one video.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfd_core.answers.spans import spans_of
from dfd_core.answers.tracks import tracks_of, with_tracks, worst_scores
from dfd_core.answers.verdicts import VerdictRule, with_verdicts
from dfd_core.config import Aggregation
from dfd_core.schemas import FACES, TRACKS, VIDEOS, check

_BATCH_ROWS = 50_000
_SLICE_ROWS = 100_000
_MEASURES = ["side_px", "sharpness", "brightness", "blockiness"]
_FRAME = ["video_id", "frame_index", "p_fake", *_MEASURES]
UNTRACKED = pa.schema(
    [
        *(field for field in FACES if field.name != "track_id"),
        pa.field("appearance", pa.binary()),
    ]
)
"""FACES without tracks and with appearances."""

SCORES = pa.schema(
    [
        *(VIDEOS.field(name) for name in ("video_id", "p_fake", *_MEASURES)),
        pa.field("num_scored_frames", pa.int64()),
    ]
)
"""One row for each video with a face."""


def read_faces(db: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
    """Yield the faces (`UNTRACKED`) by video, frame and face; shots are numbered within the video."""
    names = ", ".join(
        "face.shot + coalesce(shots_before, 0) AS shot" if name == "shot" else f"face.{name}"
        for name in UNTRACKED.names
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
        yield check(pa.Table.from_batches([batch]).cast(UNTRACKED), UNTRACKED)


def whole_videos(faces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield `faces` in tables of whole videos, each of about `_SLICE_ROWS` rows, or of one longer video."""
    held = UNTRACKED.empty_table()
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


class Answers:
    """Writes the score, the tracks and the spans of each video while its faces pass."""

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
        """Yield the faces (FACES) of whole videos (`UNTRACKED`), with their tracks."""
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
    """Return a row of `SCORES` for each video of `frames`, whose tracks are `tracks`."""
    of_frames = _OF_FRAMES[aggregation.kind].format(k=aggregation.k)
    medians = ", ".join(f"median({name})::FLOAT AS {name}" for name in _MEASURES)
    db.register("frames", frames)
    db.register("worst", worst_scores(tracks if aggregation.kind == "worst-track" else tracks.slice(0, 0)))
    # The frames are sorted before they are averaged: sums in different orders differ in the last digit.
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
    return scores.to_arrow_table().cast(SCORES)
