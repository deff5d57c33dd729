"""The tables of a finished run as views of one database. A table or column that the run lacks reads as empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from dfd_core.errors import OutputError
from dfd_core.run.database import database
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord
from dfd_core.storage.address import Address
from dfd_core.storage.tables import parquet_files
from dfd_core.storage.text import one_line

_TEXT, _INT, _FLOAT, _DOUBLE = "VARCHAR", "BIGINT", "FLOAT", "DOUBLE"
_VIDEOS = {
    "video_id": _TEXT, "uri": _TEXT, "status": _TEXT, "p_fake": _FLOAT, "verdict": _TEXT, "uncertain_reason": _TEXT,
    "num_frames": _INT, "num_faces": _INT, "duration_s": _DOUBLE, "fps": _DOUBLE, "width": _INT, "height": _INT,
    "face_share": _FLOAT, "side_px": _FLOAT, "sharpness": _FLOAT, "brightness": _FLOAT, "blockiness": _FLOAT,
    "bits_per_pixel": _FLOAT, "error_kind": _TEXT, "error_message": _TEXT, "model_id": _TEXT,
}  # fmt: skip
_BOX = {"left": _INT, "top": _INT, "right": _INT, "bottom": _INT}
_FACES = {
    "video_id": _TEXT, "frame_index": _INT, "time_s": _DOUBLE, "face_index": _INT, **_BOX, "p_fake": _FLOAT,
    "track_id": _INT,
}  # fmt: skip
_TRACKS = {
    "video_id": _TEXT, "track_id": _INT, "start_s": _DOUBLE, "end_s": _DOUBLE, "num_frames": _INT, "num_faces": _INT,
    "p_fake": _FLOAT, "verdict": _TEXT, "uncertain_reason": _TEXT,
}  # fmt: skip
_SPANS = {
    "video_id": _TEXT, "track_id": _INT, "span_index": _INT, "start_s": _DOUBLE, "end_s": _DOUBLE, "num_faces": _INT,
    "p_fake": _FLOAT,
}  # fmt: skip
_PICTURES = {
    "video_id": _TEXT, "frame_index": _INT, "time_s": _DOUBLE, "face_index": _INT, "track_id": _INT, "kind": _TEXT,
    "p_fake": _FLOAT, "width": _INT, "height": _INT, **_BOX, "jpeg": "BLOB", "occlusion": "FLOAT[]",
}  # fmt: skip
COLUMNS = {
    "videos": _VIDEOS,
    "faces": _FACES,
    "tracks": _TRACKS,
    "spans": _SPANS,
    "pictures": _PICTURES,
}
"""The columns that the pages read of each table, with DuckDB's types."""

_LAST_OF_THE_PROGRAM = "model_id"


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished run.

    Attributes:
        db: A database with the views `videos`, `faces`, `tracks`, `spans` and `pictures`, each with `COLUMNS`; `videos`
            also has `others`, a list of texts: the values of `own`, then those of `further`.
        sources: The tables behind the views, by name, for other connections to the database.
        run: `run.json`.
        own: The manifest's own columns in `videos`.
        further: Columns of `videos` that this program wrote and that `COLUMNS` does not list.
    """

    db: duckdb.DuckDBPyConnection
    sources: dict[str, ds.Dataset]
    run: dict[str, Any]
    own: tuple[str, ...]
    further: tuple[str, ...]

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return another connection with the same views: a connection streams one result at a time."""
        db = self.db.cursor()
        _make_views(db, self.sources, (*self.own, *self.further))
        return db

    def has(self, table: str) -> bool:
        """Return whether the run wrote the table."""
        return table in self.sources


@contextmanager
def open_run(scores: str) -> Iterator[Finished]:
    """Give the tables of the output folder at `scores`.

    Raises:
        OutputError: It is no output folder with scores, or its tables cannot be read.
    """
    out = OutputFolder.at(scores)
    out.refuse_missing()
    record = RunRecord.read(out)
    if record is None:
        raise OutputError(f"{out.root} holds no run.json: it is not the output of dfd score")
    if not isinstance(record.values.get("model"), dict):
        raise OutputError(f"{out.root} holds no scores: run.json names no model")
    try:
        sources = {name: found for name in COLUMNS if (found := _source(out.root / name)) is not None}
        _refuse_without(sources, out)
        names = sources["videos"].schema.names
        last = names.index(_LAST_OF_THE_PROGRAM)
        further, own = (
            tuple(name for name in part if name not in _VIDEOS) for part in (names[:last], names[last + 1 :])
        )
        with database() as db:
            _make_views(db, sources, (*own, *further))
            yield Finished(db, sources, record.values, own, further)
    except (OSError, pa.ArrowException, duckdb.IOException, duckdb.InvalidInputException) as error:
        raise OutputError(f"The tables of {out.root} cannot be read: {one_line(error)}") from error


def _source(folder: Address) -> ds.Dataset | None:
    files = parquet_files(folder)
    return ds.dataset(files, filesystem=folder.fs, format="parquet") if files else None


def _refuse_without(sources: dict[str, ds.Dataset], out: OutputFolder) -> None:
    for table, needed in (("videos", ("video_id", "uri", "status", "p_fake", "model_id")), ("faces", ())):
        if table not in sources:
            raise OutputError(f"{out.root} holds no table {table}: the run is not complete")
        missing = [name for name in needed if name not in sources[table].schema.names]
        if missing:
            raise OutputError(f"The table {table} of {out.root} has no column {', '.join(missing)}")


def _make_views(
    db: duckdb.DuckDBPyConnection, sources: dict[str, ds.Dataset], others: tuple[str, ...]
) -> None:
    for table, columns in COLUMNS.items():
        source = sources.get(table)
        present = source.schema.names if source else []
        picked = [
            f"{quoted(name) if name in present else 'NULL'}::{kind} AS {quoted(name)}"
            for name, kind in columns.items()
        ]
        if table == "videos":
            texts = ", ".join(f"{quoted(name)}::VARCHAR" for name in others)
            picked.append(f"[{texts}]::VARCHAR[] AS others")
        if source:
            db.register(f"{table}_source", source)
        rows = f"FROM {table}_source" if source else "WHERE false"
        db.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT {', '.join(picked)} {rows}")


def quoted(name: str) -> str:
    """Return `name` as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
