"""Parquet tables made elsewhere, one picture a row, as a source of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import ManifestError
from dfd_core.faces.images import FaceColumns
from dfd_core.schemas import FACE_IMAGES
from dfd_core.sources.manifest import refuse_reserved, with_text_labels
from dfd_core.sources.pictures.grouped import TABLE, TableFile, grouped
from dfd_core.sources.pictures.runs import PictureSource, absolute
from dfd_core.sources.redaction import redacted_columns
from dfd_core.storage.address import Address
from dfd_core.storage.files import exists
from dfd_core.storage.uri import join_uri

_OF_FACE = frozenset(FACE_IMAGES.names) - {"video_id", "image"}


def parquet_files(fs: pafs.FileSystem, path: str, kind: pafs.FileType) -> list[pafs.FileInfo]:
    """Return the file at `path`, or those in it if there is nothing else, if they are named like Parquet."""
    if kind == pafs.FileType.File:
        infos = [fs.get_file_info(path)]
    elif kind == pafs.FileType.Directory:
        if isinstance(fs, pafs.LocalFileSystem) and not _are_parquet(path):
            return []  # saves asking for the size of each of a million videos
        infos = [info for info in fs.get_file_info(pafs.FileSelector(path)) if info.base_name[0] not in "._"]
    else:
        return []
    if any(info.type != pafs.FileType.File or not info.path.endswith(".parquet") for info in infos):
        return []
    return sorted(infos, key=lambda info: str(info.path))


def _are_parquet(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return all(entry.name[0] in "._" or entry.name.endswith(".parquet") for entry in entries)


def holds_pictures(fs: pafs.FileSystem, path: str) -> bool:
    """Return whether a Parquet file is a table of pictures, and no manifest."""
    try:
        schema = pq.read_schema(path, filesystem=fs)
        FaceColumns.of(schema)
    except (ManifestError, pa.ArrowException):
        return False
    return "uri" not in schema.names


def read_tables(source: str, fs: pafs.FileSystem, infos: Sequence[pafs.FileInfo]) -> PictureSource:
    """Return the pictures of the Parquet files `infos`, which are `source` or lie in it.

    Raises:
        ManifestError: They break the rules; the message names the rows.
        OSError: The storage fails.
        pa.ArrowException: A file cannot be read, or its columns are not those of the first.
    """
    columns = FaceColumns.of(pq.read_schema(infos[0].path, filesystem=fs))
    files, rows = [], []
    for info in infos:
        metadata = pq.read_metadata(info.path, filesystem=fs)
        groups = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        version = (info.base_name, info.size, info.mtime_ns)
        files.append(TableFile(_address(source, info), metadata.num_rows, max(groups, default=0), version))
        names = [name for name in pq.read_schema(info.path, filesystem=fs).names if name != columns.image]
        rows.append(pq.read_table(info.path, filesystem=fs, columns=names, partitioning=None))
    given = pa.concat_tables(rows)
    if given.num_rows == 0:
        raise ManifestError("The table of pictures has no rows")
    given = given.rename_columns(
        ["video_id" if name == columns.video_id else name for name in given.column_names]
    )
    given = with_text_labels(given, of=TABLE)
    given = redacted_columns(given, given.column_names)
    for name in _OF_FACE.intersection(given.column_names):
        given.column(name).cast(FACE_IMAGES.field(name).type)  # as a worker will
    own = [name for name in given.column_names if name != "video_id" and name not in _OF_FACE]
    refuse_reserved(["video_id", *own], of="The table of pictures")
    return grouped(given, own, files)


def _address(source: str, info: pafs.FileInfo) -> str:
    """Return the address of a file that is `source` or lies in it."""
    name = source.partition("?")[0].rstrip("/").rpartition("/")[2]
    is_file = name == info.base_name and not exists(Address.parse(join_uri(source, info.base_name)))
    return absolute(source if is_file else join_uri(source, info.base_name))
