"""What is committed, what is left to do, and whether the log can be believed.

Ray Data commits a block in three steps: `ID.pending.parquet` under `checkpoint/`, the data file, then the rename of the
pending file to `ID.parquet`. A segment is done when its identifier is in a file of the last kind.
"""

from __future__ import annotations

import uuid

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from dfd_core import storage
from dfd_core.errors import OutputError
from dfd_core.output import parquet_files, write_table

_PENDING = ".pending.parquet"


def settle(checkpoint: str) -> None:
    """Delete the pending files whose commit is complete.

    A rename on an object store is a copy and a deletion; a process that dies between the two leaves both. Taken for
    pending, the committed data would be deleted.
    """
    fs, path = storage.filesystem(checkpoint)
    names = set(parquet_files(fs, path))
    for pending in names:
        if pending.endswith(_PENDING) and pending.removesuffix(_PENDING) + ".parquet" in names:
            fs.delete_file(pending)


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
        commit = file.rpartition("/")[2].rpartition("-")[0]
        if commit in found:
            found[commit].append(file)
    return found


def _ids(fs: pafs.FileSystem, files: list[str], id_column: str) -> pa.Array:
    if not files:
        return pa.array([], pa.string())
    schema = pa.schema([(id_column, pa.string())])
    try:
        table = ds.dataset(files, schema=schema, filesystem=fs, format="parquet").to_table()
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"The log is damaged: {storage.one_line(error)}") from error
    return table.column(id_column).combine_chunks()
