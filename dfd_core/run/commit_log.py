"""What is committed, what is left to do, and whether the log can be believed.

Ray Data commits a block in three steps: `ID.pending.parquet` under `checkpoint/`, the data file, then the rename of the
pending file to `ID.parquet`. A row is done when its identifier is in a file of the last kind.
"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import OutputError
from dfd_core.storage.address import Address
from dfd_core.storage.tables import parquet_files, write_table
from dfd_core.storage.text import one_line

_TIE_BREAKER = {"plan_key": "probe_s", "segment_id": "extracted_at"}
"""If two rows share an identifier and both or neither have an error, the one with the smaller value of this is kept."""

_PENDING = ".pending.parquet"
_MOST_FILES = 1000
_FILES_AT_ONCE = 200
_GROUP_BYTES, _FILE_BYTES = 16 << 20, 256 << 20
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
    def id_column(self) -> str:
        """The name of the identifier."""
        return str(self.schema.field(0).name)

    def settle(self) -> None:
        """Clear away what ended between the steps of a commit; only while no run writes to the log.

        A pending file whose commit is complete is deleted: a rename on an object store is a copy and a deletion, and a
        process that dies between the two leaves both. A pending file without its commit is deleted with its data.
        """
        names = set(parquet_files(self.checkpoint))
        pending = {name for name in names if name.endswith(_PENDING)}
        if not pending:
            return
        broken = {
            name.rpartition("/")[2].removesuffix(_PENDING)
            for name in pending
            if name.removesuffix(_PENDING) + ".parquet" not in names
        }
        _delete(self.data.fs, [file for file in parquet_files(self.data) if _commit_of(file) in broken])
        _delete(self.checkpoint.fs, sorted(pending))

    def compact(self, *, most_files: int = _MOST_FILES) -> int:
        """Merge the log's files into few where there are more than `most_files`; only while no run writes to it.

        The merged rows are committed before their originals go. If the process dies in between, rows are there twice,
        and every reader counts them once.

        Args:
            most_files: Commits that are left as they are.

        Returns:
            The number of commits that were merged; 0 if there are no more than `most_files`.

        Raises:
            OutputError: A file cannot be read or written.
        """
        commits = self._files_of_commits()
        if len(commits) <= most_files:
            return 0
        files = sorted(file for group in commits.values() for file in group)
        name = f"merged_{uuid.uuid4().hex}"
        ids: list[pa.ChunkedArray] = []
        try:
            groups = _row_groups(_batches(self.data.fs, files, self.schema))
            for group in _write_files(self.data / name, groups, self.schema):
                ids.append(group.column(0))
            column = self.schema.field(0)
            chunks = [chunk for array in ids for chunk in array.chunks]
            write_table(
                self.checkpoint / f"{name}.parquet",
                pa.table({column.name: pa.chunked_array(chunks, column.type)}),
            )
            folder = self.checkpoint.path
            _delete(self.checkpoint.fs, [posixpath.join(folder, f"{commit}.parquet") for commit in commits])
            _delete(self.data.fs, files)
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"The files of {self.data} cannot be merged: {one_line(error)}") from error
        return len(commits)

    def committed(self) -> pa.Array:
        """Return the committed identifiers, (n,) string.

        Raises:
            OutputError: A file of the log cannot be read.
        """
        files = [file for file in parquet_files(self.checkpoint) if not file.endswith(_PENDING)]
        return _ids(self.checkpoint.fs, files, self.id_column)

    def rows(self, schema: pa.Schema | None = None) -> ds.Dataset:
        """Return the committed rows as one dataset of `schema`, by default the log's.

        A data file without its commit is left out: a worker that outlives a killed run may still write one.
        """
        files = self.data_files()
        if not files:
            return ds.dataset((schema or self.schema).empty_table())
        return ds.dataset(files, schema=schema or self.schema, filesystem=self.data.fs, format="parquet")

    def register(self, db: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema | None = None) -> None:
        """Give the committed rows a name in `db`, each identifier once.

        A worker that outlives a killed run can commit a row that the next run does again. The row without an error is
        kept; otherwise always the same one.
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
        return sorted(file for files in self._files_of_commits().values() for file in files)

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
        found = _ids(self.data.fs, self.data_files(), self.id_column)
        lost = pc.sum(pc.invert(pc.is_in(ids, value_set=found))).as_py()
        if lost:
            raise OutputError(
                f"The log is damaged: {lost} of {len(ids)} committed rows are gone from {self.data}. "
                "Restore the deleted files, or start anew with --overwrite."
            )

    def _files_of_commits(self) -> dict[str, list[str]]:
        """Return the data files of every commit; Ray names them `COMMIT-N.parquet`."""
        names = [
            file.rpartition("/")[2] for file in parquet_files(self.checkpoint) if not file.endswith(_PENDING)
        ]
        found: dict[str, list[str]] = {name.removesuffix(".parquet"): [] for name in names}
        for file in parquet_files(self.data):
            commit = _commit_of(file)
            if commit in found:
                found[commit].append(file)
        return found


def _batches(fs: pafs.FileSystem, files: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `files`; a dataset keeps what it learned of each of its files, so that no large one is made."""
    for start in range(0, len(files), _FILES_AT_ONCE):
        part = files[start : start + _FILES_AT_ONCE]
        yield from ds.dataset(part, schema=schema, filesystem=fs, format="parquet").to_batches()


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield the rows of `batches` in tables of some megabytes, the last one less."""
    held: list[pa.RecordBatch] = []
    held_bytes = 0
    for batch in batches:
        held.append(batch)
        held_bytes += batch.nbytes
        if held_bytes >= _GROUP_BYTES:
            yield pa.Table.from_batches(held).combine_chunks()  # small batches take more than their rows
            held, held_bytes = [], 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _write_files(stem: Address, groups: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Write `groups` to `STEM-00000.parquet` and so on, files of some hundred megabytes unpacked; yield each as written."""
    number, groups = 0, iter(groups)
    group = next(groups, None)
    while group is not None:
        in_file = 0
        file = f"{stem.path}-{number:05d}.parquet"
        with pq.ParquetWriter(file, schema, filesystem=stem.fs, compression="zstd") as writer:
            while group is not None and in_file < _FILE_BYTES:
                writer.write_table(group)
                in_file += group.nbytes
                yield group
                group = next(groups, None)
        number += 1


def _delete(fs: pafs.FileSystem, files: Sequence[str]) -> None:
    """Delete `files`, those of an object store many at a time, since each is a request."""
    if isinstance(fs, pafs.LocalFileSystem):
        for file in files:
            fs.delete_file(file)
        return
    with ThreadPoolExecutor(_DELETING_THREADS) as pool:
        list(pool.map(fs.delete_file, files))


def _commit_of(data_file: str) -> str:
    return data_file.rpartition("/")[2].rpartition("-")[0]


def _ids(fs: pafs.FileSystem, files: list[str], id_column: str) -> pa.Array:
    if not files:
        return pa.array([], pa.string())
    schema = pa.schema([(id_column, pa.string())])
    try:
        table = pa.Table.from_batches(_batches(fs, files, schema), schema)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"The log is damaged: {one_line(error)}") from error
    return table.column(id_column).combine_chunks()
