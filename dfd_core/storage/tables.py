"""Parquet tables that a reader sees whole or not at all."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import OutputError
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes
from dfd_core.storage.text import one_line


def dataset(folder: Address, schema: pa.Schema) -> ds.Dataset:
    """Return the Parquet files directly in `folder` as one dataset of `schema`; empty if there are none."""
    files = parquet_files(folder)
    if not files:
        return ds.dataset(schema.empty_table())
    return ds.dataset(files, schema=schema, filesystem=folder.fs, format="parquet")


def dataset_of_file(address: Address, schema: pa.Schema) -> ds.Dataset:
    """Return the columns `schema` of the one Parquet file at `address`, unread.

    Raises:
        OutputError: It is not there or cannot be read.
    """
    read_schema(address)
    return ds.dataset([address.path], schema=schema, filesystem=address.fs, format="parquet")


def read_schema(address: Address) -> pa.Schema:
    """Return the schema of the one Parquet file at `address`.

    Raises:
        OutputError: It is not there or cannot be read.
    """
    try:
        return pq.read_schema(address.path, filesystem=address.fs)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{address} cannot be read: {one_line(error)}") from error


def read_table(address: Address, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the one Parquet file at `address`, or those `columns` of it.

    Raises:
        OutputError: It is not there or cannot be read.
    """
    try:
        return pq.read_table(address.path, columns=columns, filesystem=address.fs, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{address} cannot be read: {one_line(error)}") from error


def write_table(address: Address, table: pa.Table) -> None:
    """Write `table` as the one Parquet file at `address`; a reader sees the old file or the new one.

    Raises:
        OutputError: It cannot be written.
    """
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd")
    try:
        address.fs.create_dir(address.parent, recursive=True)
        write_bytes(address, content.getvalue().to_pybytes())
    except OSError as error:
        raise OutputError(f"{address} cannot be written: {one_line(error)}") from error


def num_bytes(folder: Address) -> int:
    """Return the bytes of the files of `folder`; 0 if it is not there."""
    fs, path = folder.fs, folder.path
    return sum(info.size or 0 for info in fs.get_file_info(pafs.FileSelector(path, allow_not_found=True)))


def parquet_files(folder: Address) -> list[str]:
    """Return the paths of the Parquet files directly in `folder`, sorted; none if it does not exist."""
    infos = folder.fs.get_file_info(pafs.FileSelector(folder.path, allow_not_found=True))
    return sorted(
        info.path for info in infos if info.type == pafs.FileType.File and info.path.endswith(".parquet")
    )


def replace_table(
    folder: Address, batches: Iterable[pa.Table], schema: pa.Schema, *, rows_per_file: int = 1_000_000
) -> int:
    """Write `batches` as the only Parquet files of `folder` and return the number of rows.

    On a local disk the folder is written beside and swapped in by renaming; on an object store the new files are
    written first and the old ones deleted after. There is always at least one file, so that an empty table has its
    schema too.

    Raises:
        OutputError: The folder cannot be written.
    """
    fs, path, local = folder.fs, folder.path, folder.is_local
    target = path + ".new" if local else path
    try:
        old = [] if local else parquet_files(folder)
        if local:
            _delete_folder(fs, target)
        fs.create_dir(target, recursive=True)
        new, rows = _write_files(fs, target, batches, schema, rows_per_file)
        if local:
            _swap(fs, path)
        else:
            for file in set(old) - set(new):
                fs.delete_file(file)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {one_line(error)}") from error
    return rows


def _write_files(
    fs: pafs.FileSystem, folder: str, batches: Iterable[pa.Table], schema: pa.Schema, rows_per_file: int
) -> tuple[list[str], int]:
    names: list[str] = []
    writer: pq.ParquetWriter | None = None
    rows = in_file = 0
    try:
        for batch in batches:
            if writer is None or in_file >= rows_per_file:
                if writer is not None:
                    writer.close()
                writer, in_file = _open_writer(fs, folder, schema, names), 0
            writer.write_table(batch)
            rows += batch.num_rows
            in_file += batch.num_rows
        if writer is None:
            writer = _open_writer(fs, folder, schema, names)
    finally:
        if writer is not None:
            writer.close()
    return names, rows


def _open_writer(fs: pafs.FileSystem, folder: str, schema: pa.Schema, names: list[str]) -> pq.ParquetWriter:
    names.append(posixpath.join(folder, f"part-{len(names):05d}.parquet"))
    return pq.ParquetWriter(names[-1], schema, filesystem=fs, compression="zstd")


def _swap(fs: pafs.FileSystem, path: str) -> None:
    _delete_folder(fs, path + ".old")
    if fs.get_file_info(path).type != pafs.FileType.NotFound:
        fs.move(path, path + ".old")
    fs.move(path + ".new", path)
    _delete_folder(fs, path + ".old")


def _delete_folder(fs: pafs.FileSystem, path: str) -> None:
    if fs.get_file_info(path).type == pafs.FileType.Directory:
        fs.delete_dir(path)
