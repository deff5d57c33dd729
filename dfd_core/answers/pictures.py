"""The user's `pictures/`: of what the segments kept, the most and the least suspicious faces of each video's tracks."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa

from dfd_core.run.database import database
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import FACES, PICTURES, TRACKS, check
from dfd_core.storage.address import Address
from dfd_core.storage.tables import dataset, replace_table

_BATCH_ROWS = 1_000
_KEPT = """
    SELECT manifest_row, video_id, picture
    FROM (SELECT plan_key, unnest(pictures) AS picture FROM results SEMI JOIN listed USING (segment_id))
         JOIN manifest USING (plan_key)
"""
_CHOSEN = f"""
    WITH kept AS (
        SELECT DISTINCT manifest_row, video_id, picture.frame_index AS frame_index, picture.face_index AS face_index FROM ({_KEPT})),
    ranked AS (
        SELECT kept.*, faces.time_s, faces.track_id, faces.p_fake, tracks.p_fake AS of_track,
               row_number() OVER (of_track ORDER BY faces.p_fake DESC, frame_index, face_index) AS from_most,
               row_number() OVER (of_track ORDER BY faces.p_fake, frame_index DESC, face_index DESC) AS from_least
        FROM kept JOIN faces USING (video_id, frame_index, face_index) LEFT JOIN tracks USING (video_id, track_id)
        WINDOW of_track AS (PARTITION BY manifest_row, faces.track_id)),
    ordered AS (
        SELECT *, row_number() OVER (
            PARTITION BY manifest_row
            ORDER BY least(from_most, from_least), of_track DESC NULLS LAST, track_id, from_most > from_least) AS place
        FROM ranked)
    SELECT * EXCLUDE (of_track), CASE WHEN from_most <= from_least THEN 'most' ELSE 'least' END AS kind
    FROM ordered WHERE place <= $keep
"""


def write_pictures(
    db: duckdb.DuckDBPyConnection, folder: Address, *, faces: Address, tracks: Address, keep: int
) -> None:
    """Write `pictures/` into `folder`, at most `keep` of a video.

    First the most and the least suspicious face of each track, then the next ones, in each round the most suspicious tracks first. The
    pictures themselves are read only for those that are chosen.

    Args:
        db: A database with the views `manifest`, `listed` and `results`.
        folder: Where they go.
        faces: The table of faces.
        tracks: The table of tracks.
        keep: Pictures of a video.

    Raises:
        OutputError: The folder cannot be written.
    """
    db.register("faces", dataset(faces, FACES))
    db.register("tracks", dataset(tracks, TRACKS))
    db.execute(f"CREATE OR REPLACE TEMP TABLE chosen AS {_CHOSEN}", {"keep": keep})
    replace_table(folder, _pictures(db), PICTURES)


def num_maps(out: OutputFolder) -> int:
    """Return how many occlusion maps the segments of the run have made."""
    with database() as db:
        out.segment_log.register(db, "results")
        made = db.sql(
            "SELECT coalesce(sum(len(list_filter(pictures, lambda p: p.occlusion IS NOT NULL))), 0) FROM results"
        )
        return int(made.fetchall()[0][0])


def _pictures(db: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
    own = ("video_id", "frame_index", "time_s", "face_index", "track_id", "kind", "p_fake")
    names = [f"chosen.{name}" if name in own else f"picture.{name}" for name in PICTURES.names]
    found = db.sql(
        f"""
        SELECT {", ".join(names)}
        FROM ({_KEPT}) AS kept JOIN chosen ON chosen.manifest_row = kept.manifest_row
             AND chosen.frame_index = picture.frame_index AND chosen.face_index = picture.face_index
        ORDER BY chosen.manifest_row, place
        """
    )
    for batch in found.to_arrow_reader(_BATCH_ROWS):
        yield check(pa.Table.from_batches([batch]).cast(PICTURES), PICTURES)
