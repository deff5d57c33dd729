"""The committed log of an output folder as views of a database, and the manifest's own columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from dfd_core.errors import OutputError
from dfd_core.run.database import database
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import INPUT_HASHES, MANIFEST, SEGMENT
from dfd_core.storage.tables import dataset, dataset_of_file, read_schema, read_table


@contextmanager
def connect(out: OutputFolder, results_schema: pa.Schema) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a database with the views `manifest`, `hashes`, `plans`, `listed` and `results`, the last two by segment.

    Args:
        out: The output folder.
        results_schema: The columns to read of the segment log.

    Raises:
        OutputError: The log is incomplete.
    """
    with database() as db:
        db.register("manifest", dataset_of_file(out.manifest, MANIFEST))
        db.register("listed", dataset(out.segment_list, SEGMENT))
        db.register("hashes", dataset(out.input_hashes, INPUT_HASHES))
        out.plan_log.register(db, "plans")
        out.segment_log.register(db, "results", results_schema)
        _refuse_incomplete(db)
        yield db


def own_columns(manifest: pa.Schema) -> list[pa.Field]:
    """Return the fields of a manifest that are the user's own."""
    return [field for field in manifest if field.name not in MANIFEST.names]


def read_own_columns(out: OutputFolder) -> pa.Table:
    """Return the user's own columns of the manifest, one row a video; no rows if it has no such columns."""
    return read_table(out.manifest, [field.name for field in own_columns(read_schema(out.manifest))])


def _refuse_incomplete(db: duckdb.DuckDBPyConnection) -> None:
    unplanned, missing = one_row(
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


def one_row(db: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    """Return the one row of a query of integers."""
    return tuple(db.sql(query).fetchall()[0])
