"""What is committed, what is left to do, and whether the log can be believed.

Ray Data commits a block in three steps: `ID.pending.parquet` under `checkpoint/`, the data file, then the rename of the
pending file to `ID.parquet`. A segment is done when its identifier is in a file of the last kind.
"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import OutputError
from dfd_core.run.output_folder import parquet_files, write_table
from dfd_core.storage import address as storage

_THEN = {"plan_key": "probe_s", "segment_id": "extracted_at"}
"""Of two rows with the same identifier and both with an error, or both without: the one with less of this counts."""

_PENDING = ".pending.parquet"
_MOST_FILES = 1000
_FILES_AT_ONCE = 200
_GROUP_BYTES, _FILE_BYTES = 16 << 20, 256 << 20
_DELETING_THREADS = 16


def settle(checkpoint: str, data: str) -> None:
    """Clear away what ended between the steps of a commit; only while no run writes to the log.

    A pending file whose commit is complete is deleted: a rename on an object store is a copy and a deletion, and a
    process that dies between the two leaves both. A pending file without its commit is deleted with its data.
    """
    fs, path = storage.filesystem(checkpoint)
    names = set(parquet_files(fs, path))
    pending = {name for name in names if name.endswith(_PENDING)}
    if not pending:
        return
    broken = {
        name.rpartition("/")[2].removesuffix(_PENDING)
        for name in pending
        if name.removesuffix(_PENDING) + ".parquet" not in names
    }
    data_fs, data_path = storage.filesystem(data)
    _delete(data_fs, [file for file in parquet_files(data_fs, data_path) if _commit_of(file) in broken])
    _delete(fs, sorted(pending))


def compact(checkpoint: str, data: str, schema: pa.Schema, *, most_files: int = _MOST_FILES) -> int:
    """Merge the files of a log into few where there are more than `most_files`; only while no run writes to it.

    The merged rows are committed before their originals go: whoever dies in between leaves rows twice, which every
    reader counts once.

    Args:
        checkpoint: The log's identifiers.
        data: The log's rows.
        schema: Of the rows; the first column is the identifier.
        most_files: Commits that are left as they are.

    Returns:
        The number of commits that were merged; 0 if there are no more than `most_files`.

    Raises:
        OutputError: A file cannot be read or written.
    """
    commits = _data_files(checkpoint, data)
    if len(commits) <= most_files:
        return 0
    fs, folder = storage.filesystem(data)
    files = sorted(file for group in commits.values() for file in group)
    name = f"merged_{uuid.uuid4().hex}"
    ids: list[pa.ChunkedArray] = []
    try:
        groups = _row_groups(_batches(fs, files, schema))
        for group in _write_files(fs, posixpath.join(folder, name), groups, schema):
            ids.append(group.column(0))
        column = schema.field(0)
        chunks = [chunk for array in ids for chunk in array.chunks]
        write_table(
            storage.join(checkpoint, f"{name}.parquet"),
            pa.table({column.name: pa.chunked_array(chunks, column.type)}),
        )
        checkpoint_fs, checkpoint_folder = storage.filesystem(checkpoint)
        _delete(checkpoint_fs, [posixpath.join(checkpoint_folder, f"{commit}.parquet") for commit in commits])
        _delete(fs, files)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"The files of {data} cannot be merged: {storage.one_line(error)}") from error
    return len(commits)


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


def _write_files(
    fs: pafs.FileSystem, stem: str, groups: Iterable[pa.Table], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Write `groups` to `STEM-00000.parquet` and so on, files of some hundred megabytes unpacked; yield each as written."""
    number, groups = 0, iter(groups)
    group = next(groups, None)
    while group is not None:
        in_file = 0
        file = f"{stem}-{number:05d}.parquet"
        with pq.ParquetWriter(file, schema, filesystem=fs, compression="zstd") as writer:
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


def committed(checkpoint: str, id_column: str) -> pa.Array:
    """Return the identifiers that are committed under `checkpoint`, (n,) string.

    Raises:
        OutputError: A file of the log cannot be read.
    """
    fs, path = storage.filesystem(checkpoint)
    files = [file for file in parquet_files(fs, path) if not file.endswith(_PENDING)]
    return _ids(fs, files, id_column)


def rows(checkpoint: str, data: str, schema: pa.Schema) -> ds.Dataset:
    """Return the committed rows of folder `data` as one dataset of `schema`.

    A data file without its commit is left out: a worker that outlives a killed run may still write one.
    """
    fs, _ = storage.filesystem(data)
    files = data_files(checkpoint, data)
    if not files:
        return ds.dataset(schema.empty_table())
    return ds.dataset(files, schema=schema, filesystem=fs, format="parquet")


def register_once(db: duckdb.DuckDBPyConnection, name: str, rows: ds.Dataset, key: str) -> None:
    """Give `rows` of a log a name in `db`, each `key` once.

    A worker that outlives a killed run can commit a row that the next run does again. Of two rows the one without an error
    counts, and else always the same one.
    """
    db.register(f"{name}_log", rows)
    twice = f"{name}_twice"
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE {twice} AS SELECT {key} FROM {name}_log GROUP BY {key} HAVING count(*) > 1"
    )
    once = f"SELECT * FROM {name}_log"
    if db.table(twice).limit(1).fetchall():  # sorting a log costs more than all the rest
        once = f"""
            {once} ANTI JOIN {twice} USING ({key}) UNION ALL (
                SELECT DISTINCT ON ({key}) * FROM {name}_log SEMI JOIN {twice} USING ({key})
                ORDER BY {key}, error_kind IS NOT NULL, {_THEN[key]})"""
    db.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {once}")


def each_once(rows: pa.Table, key: str) -> pa.Table:
    """Return `rows` of a log, each `key` once, by the rule of `register_once`; the order is another if any is there twice."""
    if pc.count_distinct(rows.column(key)).as_py() == rows.num_rows:
        return rows
    rows = rows.append_column("is_error", pc.is_valid(rows.column("error_kind")))
    rows = rows.sort_by([(key, "ascending"), ("is_error", "ascending"), (_THEN[key], "ascending")])
    keys = rows.column(key).combine_chunks()
    is_first = pc.not_equal(keys[1:], keys[:-1])
    return rows.filter(pa.concat_arrays([pa.array([True]), is_first])).drop_columns("is_error")


def data_files(checkpoint: str, data: str) -> list[str]:
    """Return the paths of the files of folder `data` whose commit is complete, sorted."""
    return sorted(file for files in _data_files(checkpoint, data).values() for file in files)


def append(checkpoint: str, data: str, table: pa.Table) -> None:
    """Commit `table`, whose first column is the identifier, as a block of the log of folder `data`.

    Raises:
        OutputError: It cannot be written.
    """
    name = f"driver_{uuid.uuid4().hex}"
    write_table(storage.join(data, f"{name}-0.parquet"), table)
    write_table(storage.join(checkpoint, f"{name}.parquet"), table.select([0]))


def refuse_damage(checkpoint: str, data: str, id_column: str) -> None:
    """Check that every committed identifier has its row.

    Raises:
        OutputError: Rows that were committed are gone, or a file cannot be read.
    """
    ids = committed(checkpoint, id_column)
    if len(ids) == 0:
        return
    fs, _ = storage.filesystem(data)
    files = data_files(checkpoint, data)
    lost = pc.sum(pc.invert(pc.is_in(ids, value_set=_ids(fs, files, id_column)))).as_py()
    if lost:
        raise OutputError(
            f"The log is damaged: {lost} of {len(ids)} committed rows are gone from {data}. "
            "Restore the deleted files, or start anew with --overwrite."
        )


def _data_files(checkpoint: str, data: str) -> dict[str, list[str]]:
    """Return the data files of every commit; Ray names them `COMMIT-N.parquet`."""
    fs, path = storage.filesystem(checkpoint)
    names = [file.rpartition("/")[2] for file in parquet_files(fs, path) if not file.endswith(_PENDING)]
    found: dict[str, list[str]] = {name.removesuffix(".parquet"): [] for name in names}
    fs, path = storage.filesystem(data)
    for file in parquet_files(fs, path):
        commit = _commit_of(file)
        if commit in found:
            found[commit].append(file)
    return found


def _commit_of(data_file: str) -> str:
    return data_file.rpartition("/")[2].rpartition("-")[0]


def _ids(fs: pafs.FileSystem, files: list[str], id_column: str) -> pa.Array:
    if not files:
        return pa.array([], pa.string())
    schema = pa.schema([(id_column, pa.string())])
    try:
        table = pa.Table.from_batches(_batches(fs, files, schema), schema)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"The log is damaged: {storage.one_line(error)}") from error
    return table.column(id_column).combine_chunks()
