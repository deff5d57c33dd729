"""STAGE 3 where no model scores: `faces/` and `videos/` of a folder of face pictures.

The pictures pass through one by one; only the sums over the segments run in DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfd_core.answers.aggregate import counts, finish_videos, videos_query
from dfd_core.answers.log_views import connect, own_columns
from dfd_core.errors import ManifestError
from dfd_core.run.counts import Counts
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import FACE_IMAGES, FACE_VIDEOS, MANIFEST, SEGMENT_PICTURES, check
from dfd_core.storage.tables import read_table, replace_table

STATUSES = ("extracted", "no_face", "partial", "failed")
_BATCH_ROWS = 50_000
_GROUP_BYTES = 32 << 20
_FILE_ROWS = 20_000
_NAMED = ("segment_id", "error_kind", "extracted_at")


def refuse_own_columns(manifest: pa.Table) -> None:
    """Check that no column of the manifest has the name of one of `faces/`.

    Raises:
        ManifestError: One has.
    """
    taken = sorted(set(FACE_IMAGES.names) & {own.name for own in own_columns(manifest.schema)})
    if taken:
        raise ManifestError(
            f"The manifest's columns {', '.join(taken)} have names that faces/ uses; rename them"
        )


def finish_faces(out: OutputFolder) -> Counts:
    """Write `faces/` and `videos/` from the committed segments and return what they hold.

    Raises:
        OutputError: The log is damaged or incomplete, or the tables cannot be written.
    """
    without_pictures = pa.schema([field for field in SEGMENT_PICTURES if field.name != "faces"])
    with connect(out, without_pictures) as db:
        manifest = read_table(out.manifest)
        own = own_columns(manifest.schema)
        faces = _faces(out, db, manifest)
        replace_table(out.faces, faces, pa.schema([*FACE_IMAGES, *own]), rows_per_file=_FILE_ROWS)
        replace_table(
            out.videos,
            _videos(db, manifest.select([field.name for field in own])),
            pa.schema([*FACE_VIDEOS, *own]),
        )
        return counts(db, out, STATUSES)


def _videos(db: duckdb.DuckDBPyConnection, own: pa.Table) -> Iterator[pa.Table]:
    joined = db.sql(f"{videos_query('extracted', num_faces='num_faces')} ORDER BY manifest_row")
    for batch in joined.to_arrow_reader(_BATCH_ROWS):
        yield finish_videos(pa.Table.from_batches([batch]), own, FACE_VIDEOS)


def _faces(out: OutputFolder, db: duckdb.DuckDBPyConnection, manifest: pa.Table) -> Iterator[pa.Table]:
    """Yield the faces of the present manifest's segments in the order of the log, a row group at a time."""
    chosen = db.sql(
        f"SELECT {', '.join(_NAMED)} FROM results SEMI JOIN listed USING (segment_id)"
    ).to_arrow_table()
    wanted = set(zip(*(column.to_pylist() for column in chosen.columns), strict=True))
    row_of = {key: row for row, key in enumerate(manifest.column("plan_key").to_pylist())}
    group: list[pa.Table] = []
    for segment in _segments(out, wanted):
        group.append(_faces_of(segment, manifest, row_of[segment.column("plan_key")[0].as_py()]))
        if sum(part.nbytes for part in group) >= _GROUP_BYTES:
            yield pa.concat_tables(group).combine_chunks()
            group = []
    if group:
        yield pa.concat_tables(group).combine_chunks()


def _segments(out: OutputFolder, wanted: set[tuple[object, ...]]) -> Iterator[pa.Table]:
    """Yield the committed segments that are `wanted` by `_NAMED`, one row each, each once."""
    log = out.segment_log
    for path in log.data_files():
        with log.data.fs.open_input_file(path) as opened:
            for batch in pq.ParquetFile(opened).iter_batches(1, columns=[*_NAMED, "plan_key", "faces"]):
                named = tuple(batch.column(name)[0].as_py() for name in _NAMED)
                if named in wanted:
                    wanted.remove(named)
                    yield pa.Table.from_batches([batch])


def _faces_of(segment: pa.Table, manifest: pa.Table, row: int) -> pa.Table:
    faces = pc.list_flatten(segment.column("faces")).combine_chunks()
    video_id = manifest.column("video_id")[row]
    columns = [pa.array([video_id.as_py()] * len(faces), pa.string())]
    columns += [faces.field(name) for name in FACE_IMAGES.names[1:]]
    table = pa.Table.from_arrays(columns, schema=FACE_IMAGES)
    own = manifest.drop_columns(MANIFEST.names)
    rows = pa.array([row] * len(faces), pa.int64())
    for field in own.schema:
        table = table.append_column(field, own.column(field.name).take(rows))
    return check(table, pa.schema([*FACE_IMAGES, *own.schema]))
