"""What is committed, what is left to do, and whether the log is whole.

Ray Data commits a block in three steps: `ID.pending.parquet` under `checkpoint/`, the data file, then the rename of the
pending file to `ID.parquet`. A row is done when its identifier is in a file of the last kind.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from dfd_core.errors import OutputError
from dfd_core.storage.address import Address
from dfd_core.storage.tables import parquet_files, write_table
from dfd_core.storage.text import one_line

_TIE_BREAKER = {"plan_key": "probe_s", "segment_id": "extracted_at"}
"""If two rows share an identifier and both or neither have an error, the one with the smaller value of this is kept."""

_PENDING = ".pending.parquet"
_FILES_AT_ONCE = 200
_CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
_REMEDY = "Restore the files, or repeat the command with --repair, which does what is lost again."
_DELETING_THREADS = 16


@dataclass(frozen=True, slots=True)
class CommitLog:
    """Rows that grow block by block; a row counts once its identifier is committed.

    Attributes:
        data: The folder of the rows.
        checkpoint: The folder of the committed identifiers.
        schema: Of the rows; the first column is the identifier.
    """

    data: Address
    checkpoint: Address
    schema: pa.Schema

    @property
    def name(self) -> str:
        """What the log is called: `plan` or `segments`."""
        return self.checkpoint.name

    @property
    def id_column(self) -> str:
        """The name of the identifier."""
        return str(self.schema.field(0).name)

    def settle(self) -> None:
        """Clear away what ended between the steps of a commit; only while no run writes to the log.

        A pending file whose commit is complete is deleted: a rename on an object store is a copy and a deletion, and a
        process that dies between the two leaves both. A pending file without its commit is deleted first, which keeps a
        worker that outlived its run from committing it, and its data after. Whatever is committed by then stays.
        """
        pending = [file for file in parquet_files(self.checkpoint) if file.endswith(_PENDING)]
        if not pending:
            return
        delete_files(self.checkpoint.fs, pending)
        if not self.data.is_local:
            return  # a rename there may still be under way; data without a commit does not count
        committed = set(self._commits())
        broken = {_name(file).removesuffix(_PENDING) for file in pending} - committed
        delete_files(self.data.fs, [file for file in parquet_files(self.data) if commit_of(file) in broken])

    def committed(self) -> pa.Array:
        """Return the committed identifiers, (n,) string.

        Raises:
            OutputError: A file of the log cannot be read.
        """
        return read_ids(self.checkpoint.fs, list(self._commits().values()), self.id_column)

    def rows(self, schema: pa.Schema | None = None) -> ds.Dataset:
        """Return the committed rows as one dataset of `schema`, by default the log's.

        A data file without its commit is left out: a worker that outlives a killed run may still write one.
        """
        files = self.data_files()
        if not files:
            return ds.dataset((schema or self.schema).empty_table())
        return ds.dataset(files, schema=schema or self.schema, filesystem=self.data.fs, format=_CHECKED)

    def register(self, db: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema | None = None) -> None:
        """Give the committed rows a name in `db`, each identifier once.

        A worker that outlives a killed run can commit a row that the next run does again. The row without an error is
        kept; if both or neither have one, the earlier.
        """
        key = self.id_column
        db.register(f"{name}_log", self.rows(schema))
        twice = f"{name}_twice"
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE {twice} AS SELECT {key} FROM {name}_log GROUP BY {key} HAVING count(*) > 1"
        )
        once = f"SELECT * FROM {name}_log"
        if db.table(twice).limit(1).fetchall():  # sorting a log costs more than all the rest
            once = f"""
                {once} ANTI JOIN {twice} USING ({key}) UNION ALL (
                    SELECT DISTINCT ON ({key}) * FROM {name}_log SEMI JOIN {twice} USING ({key})
                    ORDER BY {key}, error_kind IS NOT NULL, {_TIE_BREAKER[key]})"""
        db.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {once}")

    def each_once(self, rows: pa.Table) -> pa.Table:
        """Return `rows` of the log, each identifier once, by the rule of `register`; sorted if any was there twice."""
        key = self.id_column
        if pc.count_distinct(rows.column(key)).as_py() == rows.num_rows:
            return rows
        rows = rows.append_column("is_error", pc.is_valid(rows.column("error_kind")))
        rows = rows.sort_by([(key, "ascending"), ("is_error", "ascending"), (_TIE_BREAKER[key], "ascending")])
        keys = rows.column(key).combine_chunks()
        is_first = pc.not_equal(keys[1:], keys[:-1])
        return rows.filter(pa.concat_arrays([pa.array([True]), is_first])).drop_columns("is_error")

    def data_files(self) -> list[str]:
        """Return the paths of the data files whose commit is complete, sorted."""
        return sorted(file for files in self.commits().values() for file in files)

    def append(self, table: pa.Table) -> None:
        """Commit `table`, whose first column is the identifier, as one block.

        Raises:
            OutputError: It cannot be written.
        """
        name = f"driver_{uuid.uuid4().hex}"
        write_table(self.data / f"{name}-0.parquet", table)
        write_table(self.checkpoint / f"{name}.parquet", table.select([0]))

    def refuse_damage(self) -> None:
        """Check that every committed identifier has its row.

        Raises:
            OutputError: Rows that were committed are gone, or a file cannot be read.
        """
        ids = self.committed()
        if len(ids) == 0:
            return
        found = read_ids(self.data.fs, self.data_files(), self.id_column)
        lost = pc.sum(pc.invert(pc.is_in(ids, value_set=found))).as_py()
        if lost:
            raise OutputError(
                f"The log is damaged: {lost} of {len(ids)} committed rows are gone from {self.data}. {_REMEDY}"
            )

    def commits(self) -> dict[str, list[str]]:
        """Return the data files of every commit; Ray names them `COMMIT-N.parquet`."""
        found: dict[str, list[str]] = {name: [] for name in self._commits()}
        for file in parquet_files(self.data):
            commit = commit_of(file)
            if commit in found:
                found[commit].append(file)
        return found

    def checkpoint_file(self, commit: str) -> str:
        """Return the path of the file that holds the identifiers of `commit`."""
        return (self.checkpoint / f"{commit}.parquet").path

    def _commits(self) -> dict[str, str]:
        """Return the file of identifiers of every commit."""
        files = (file for file in parquet_files(self.checkpoint) if not file.endswith(_PENDING))
        return {_name(file).removesuffix(".parquet"): file for file in files}


def delete_files(fs: pafs.FileSystem, files: Sequence[str]) -> None:
    """Delete those of `files` that are there, many at a time if each is a request."""
    if isinstance(fs, pafs.LocalFileSystem):
        for file in files:
            _delete(fs, file)
        return
    with ThreadPoolExecutor(_DELETING_THREADS) as pool:
        list(pool.map(partial(_delete, fs), files))


def _delete(fs: pafs.FileSystem, file: str) -> None:
    with suppress(FileNotFoundError):  # renamed by a worker that outlived its run
        fs.delete_file(file)


def read_batches(fs: pafs.FileSystem, files: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `files` in batches.

    A dataset keeps what it learned of each of its files, so one of many files is never made.
    """
    for start in range(0, len(files), _FILES_AT_ONCE):
        part = files[start : start + _FILES_AT_ONCE]
        yield from ds.dataset(part, schema=schema, filesystem=fs, format=_CHECKED).to_batches()


def commit_of(data_file: str) -> str:
    """Return the name of the commit that the data file `COMMIT-N.parquet` belongs to."""
    return _name(data_file).rpartition("-")[0]


def _name(file: str) -> str:
    return file.rpartition("/")[2]


def read_ids(fs: pafs.FileSystem, files: list[str], id_column: str) -> pa.Array:
    """Return the identifiers in `files`.

    Raises:
        OutputError: A file cannot be read.
    """
    if not files:
        return pa.array([], pa.string())
    schema = pa.schema([(id_column, pa.string())])
    try:
        table = pa.Table.from_batches(read_batches(fs, files, schema), schema)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"The log is damaged: {one_line(error)}. {_REMEDY}") from error
    return table.column(id_column).combine_chunks()
