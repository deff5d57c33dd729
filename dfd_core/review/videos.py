"""The videos of a finished run, the most suspicious first, each with its faces, tracks, spans and pictures.

Every table is read once, in the order of the videos, so that memory does not grow with the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import duckdb

from dfd_core.review.tables import Finished

MOST_FACES = 600
"""Points of one track's timeline. Of a longer track the most suspicious face of each equal part is taken."""

_BATCH_ROWS = 2_000
_ORDER = """
    CASE verdict WHEN 'fake' THEN 0 WHEN 'uncertain' THEN 1 WHEN 'real' THEN 2 ELSE 3 END,
    p_fake DESC NULLS LAST, status, video_id
"""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Video:
    """One video with everything that the run says of it.

    Attributes:
        rank: Its place, from 0.
        facts: Its row of `videos`, with the columns of `COLUMNS` and `others`.
        faces: By time; at most `MOST_FACES` of a track. A face without a track has a null `track_id`.
        tracks: The most suspicious first.
        spans: By time.
        pictures: By track, the most suspicious first.
    """

    rank: int
    facts: Row
    faces: list[Row] = field(default_factory=list)
    tracks: list[Row] = field(default_factory=list)
    spans: list[Row] = field(default_factory=list)
    pictures: list[Row] = field(default_factory=list)


def ranked_videos(run: Finished, *, limit: int) -> Iterator[Video]:
    """Yield the first `limit` videos: fake, uncertain, real, then those without a score, each by falling `p_fake`."""
    return _with_rows(run, "SELECT * FROM videos", limit)


def one_video(run: Finished, video_id: str) -> Video | None:
    """Return the video with that id, or None if the run has none."""
    matching = run.db.sql("SELECT * FROM videos WHERE video_id = $1", params=[video_id])
    run.db.register("matching", matching.to_arrow_table())
    return next(_with_rows(run, "SELECT * FROM matching", 1), None)


def _with_rows(run: Finished, query: str, limit: int) -> Iterator[Video]:
    run.db.execute(
        f"""CREATE OR REPLACE TABLE chosen AS
            SELECT row_number() OVER (ORDER BY {_ORDER}) - 1 AS rank, * FROM ({query})
            ORDER BY {_ORDER} LIMIT {limit}"""
    )
    faces, tracks, spans, pictures = (
        _Rows(run.cursor(), query)
        for query in (_FACES, _of("tracks", "p_fake DESC, track_id"), _of("spans", "start_s"), _PICTURES)
    )
    for facts in _stream(run.cursor(), "SELECT * FROM chosen ORDER BY rank"):
        rank = facts.pop("rank")
        yield Video(rank, facts, *(rows.take(rank) for rows in (faces, tracks, spans, pictures)))


def _of(table: str, order: str) -> str:
    return f"SELECT rank, {table}.* FROM {table} JOIN (SELECT rank, video_id FROM chosen) USING (video_id) ORDER BY rank, {order}"


_PICTURES = _of("pictures", "track_id NULLS LAST, kind <> 'most', p_fake DESC, frame_index")
_FACES = f"""
    WITH timed AS (
        SELECT rank, faces.*, max(time_s) OVER (PARTITION BY rank) AS last_s
        FROM faces JOIN (SELECT rank, video_id FROM chosen) USING (video_id))
    SELECT rank, max_by(timed, p_fake) AS face FROM timed
    GROUP BY rank, coalesce(track_id, -1 - face_index), floor(time_s * {MOST_FACES} / greatest(last_s, 1e-9))
    ORDER BY rank, min(time_s), min(face_index)
"""


class _Rows:
    """The rows of a query that is ordered by `rank`, taken one rank after the other."""

    def __init__(self, db: duckdb.DuckDBPyConnection, query: str) -> None:
        self._rows = _stream(db, query)
        self._next = next(self._rows, None)

    def take(self, rank: int) -> list[Row]:
        """Return the rows of `rank`."""
        taken = []
        while self._next is not None and self._next["rank"] == rank:
            row = self._next
            del row["rank"]
            taken.append(row.get("face", row))
            self._next = next(self._rows, None)
        return taken


def _stream(db: duckdb.DuckDBPyConnection, query: str) -> Iterator[Row]:
    for batch in db.sql(query).to_arrow_reader(_BATCH_ROWS):
        yield from batch.to_pylist()
