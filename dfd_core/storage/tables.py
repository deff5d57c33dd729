"""Parquet tables that a reader sees whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import OutputError
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes
from dfd_core.storage.parts import parquet_files, replace_table
from dfd_core.storage.text import one_line

__all__ = [
    "dataset",
    "dataset_of_file",
    "num_bytes",
    "parquet_files",
    "read_schema",
    "read_table",
    "replace_table",
    "write_table",
]


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
    pq.write_table(table, content, compression="zstd", write_page_checksum=True)
    try:
        address.durable_fs.create_dir(address.parent, recursive=True)
        write_bytes(address, content.getvalue().to_pybytes())
    except OSError as error:
        raise OutputError(f"{address} cannot be written: {one_line(error)}") from error


def num_bytes(folder: Address) -> int:
    """Return the bytes of the files of `folder`; 0 if it is not there."""
    fs, path = folder.fs, folder.path
    return sum(info.size or 0 for info in fs.get_file_info(pafs.FileSelector(path, allow_not_found=True)))
