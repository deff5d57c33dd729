"""Tables of several Parquet files that a reader sees whole, old or new.

On a local disk the folder of the new files takes the place of the old one in a single step. Elsewhere the new files have
names of their own, and `_parts.json`, which names the files that count, is written last; the old files go after that.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import OutputError
from dfd_core.storage.address import Address
from dfd_core.storage.durable import sync
from dfd_core.storage.files import read_bytes, write_bytes
from dfd_core.storage.swap import left_beside, replacing_folder
from dfd_core.storage.text import one_line

_PARTS = "_parts.json"
_OURS = re.compile(r"part-([0-9a-f]{12}-)?[0-9]{5}\.parquet")
"""Names of the files that `replace_table` has written; no others are deleted."""


def parquet_files(folder: Address) -> list[str]:
    """Return the paths of the Parquet files directly in `folder`, sorted; none if it does not exist.

    Where the folder has a list of its parts, other parts do not count: they are of a table that was not finished.
    """
    infos = folder.fs.get_file_info(pafs.FileSelector(_present(folder), allow_not_found=True))
    files = [info.path for info in infos if info.type == pafs.FileType.File]
    names = {posixpath.basename(path) for path in files}
    if _PARTS in names:
        listed = json.loads(read_bytes(folder / _PARTS))["parts"]
        names = {name for name in names if name in listed or not _OURS.fullmatch(name)}
    return sorted(path for path in files if path.endswith(".parquet") and posixpath.basename(path) in names)


def _present(folder: Address) -> str:
    """Return the path of `folder`; of the old one if a process was killed while it put a new one in its place."""
    if folder.is_local and not os.path.lexists(folder.path):
        return next(iter(left_beside(folder.path, "old")), folder.path)
    return folder.path


def replace_table(
    folder: Address, batches: Iterable[pa.Table], schema: pa.Schema, *, rows_per_file: int = 1_000_000
) -> int:
    """Write `batches` as the only parts of the table in `folder` and return the number of rows.

    If writing fails, the old table stays. There is always at least one file, so that an empty table has its schema too.
    Files with other names, which somebody else has put there, stay.

    Raises:
        OutputError: The folder cannot be written.
    """
    replace = _replace_local if folder.is_local else _replace_remote
    try:
        return replace(folder, batches, schema, rows_per_file)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {one_line(error)}") from error


def _replace_local(
    folder: Address, batches: Iterable[pa.Table], schema: pa.Schema, rows_per_file: int
) -> int:
    path = folder.path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing_folder(path) as new:
        parts = _Parts(folder.fs, posixpath.join(new, "part-"), schema, rows_per_file)
        with parts.written(batches):
            for part in parts.paths:
                sync(part)
            for name in os.listdir(path) if os.path.isdir(path) else []:
                if not _OURS.fullmatch(name):
                    os.rename(os.path.join(path, name), os.path.join(new, name))
    return parts.num_rows


def _replace_remote(
    folder: Address, batches: Iterable[pa.Table], schema: pa.Schema, rows_per_file: int
) -> int:
    fs = folder.fs
    fs.create_dir(folder.path, recursive=True)
    stem = posixpath.join(folder.path, f"part-{uuid.uuid4().hex[:12]}-")
    parts = _Parts(fs, stem, schema, rows_per_file)
    with parts.written(batches):
        names = [posixpath.basename(part) for part in parts.paths]
        write_bytes(folder / _PARTS, json.dumps({"parts": names}).encode())
    for info in fs.get_file_info(pafs.FileSelector(folder.path)):
        if _OURS.fullmatch(info.base_name) and info.base_name not in names:
            fs.delete_file(info.path)
    return parts.num_rows


class _Parts:
    """The files of one table, being written.

    Attributes:
        paths: What was begun so far.
        num_rows: What was written so far.
    """

    def __init__(self, fs: pafs.FileSystem, stem: str, schema: pa.Schema, rows_per_file: int) -> None:
        self._fs, self._stem, self._schema, self._rows_per_file = fs, stem, schema, rows_per_file
        self._writer: pq.ParquetWriter | None = None
        self.paths: list[str] = []
        self.num_rows = 0

    @contextmanager
    def written(self, batches: Iterable[pa.Table]) -> Iterator[None]:
        """Write `batches` before the block; delete the files if that or the block fails."""
        try:
            self._write(batches)
            yield
        except BaseException:
            self._abort()
            raise

    def _write(self, batches: Iterable[pa.Table]) -> None:
        in_file = 0
        for batch in batches:
            if self._writer is None or in_file >= self._rows_per_file:
                self._writer, in_file = self._next(), 0
            self._writer.write_table(batch)
            self.num_rows += batch.num_rows
            in_file += batch.num_rows
        (self._writer or self._next()).close()

    def _next(self) -> pq.ParquetWriter:
        if self._writer is not None:
            self._writer.close()
        self.paths.append(f"{self._stem}{len(self.paths):05d}.parquet")
        return pq.ParquetWriter(
            self.paths[-1],
            self._schema,
            filesystem=self._fs,
            compression="zstd",
            write_page_checksum=True,
        )

    def _abort(self) -> None:
        if self._writer is not None:
            with suppress(Exception):  # it is deleted, whatever it holds
                self._writer.close()
        for path in self.paths:
            with suppress(Exception):  # the storage may be what failed; the table does not name it
                self._fs.delete_file(path)
