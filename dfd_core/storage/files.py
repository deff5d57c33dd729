"""Whole files: read, write, open and delete."""

from __future__ import annotations

import io
import os
import stat
import uuid
from contextlib import suppress
from typing import IO, Any, BinaryIO, cast

import pyarrow.fs as pafs

from dfd_core.storage.address import Address
from dfd_core.storage.durable import replace_file
from dfd_core.storage.fsspec_bridge import renames_in_one_step, writes_whole_files
from dfd_core.storage.range_file import RangeFile

PART_SUFFIX = ".part"
"""Ends the name of a local file that is being written, and of one whose writer was killed."""


class NotAFileError(OSError):
    """It is there, and it is no file: a folder, a pipe or a device."""


def exists(address: Address) -> bool:
    """Return whether a file or a folder is there."""
    return bool(address.fs.get_file_info(address.path).type != pafs.FileType.NotFound)


def read_bytes(address: Address) -> bytes:
    """Return the whole content; OSError as the file system gives it."""
    with address.fs.open_input_stream(address.path) as stream:
        return cast(bytes, stream.read())


def open_text(address: Address) -> IO[Any]:
    """Return the text file, opened for reading as UTF-8 with or without a byte-order mark."""
    return io.TextIOWrapper(io.BytesIO(read_bytes(address)), encoding="utf-8-sig", newline="")


def open_file(address: Address) -> BinaryIO:
    """Return the file, opened for reading and seekable; a remote one is read by ranges.

    Raises:
        NotAFileError: A local address names something else.
        OSError: As the file system gives it.
    """
    if not address.is_local:
        return cast(BinaryIO, RangeFile(address.fs.open_input_file(address.path)))
    if not stat.S_ISREG(os.stat(address.path).st_mode):
        raise NotAFileError("Not a regular file")
    return open(address.path, "rb", buffering=0)


def write_bytes(address: Address, content: bytes) -> None:
    """Write `content` so that a reader sees the old or the new content, never a part.

    An object store's write is atomic by itself. Elsewhere a file is written beside and renamed; on `hdfs://`, whose
    rename does not replace, a reader may find no file for a moment.

    Raises:
        OSError: As the file system gives it, or the store can neither write nor rename in one step.
    """
    if address.is_local:
        _write_local(address.path, content)
    elif writes_whole_files(address.fs):
        with address.fs.open_output_stream(address.path) as stream:
            stream.write(content)
    else:
        _write_beside(address, content)


def _write_local(path: str, content: bytes) -> None:
    beside = f"{path}.{os.getpid()}{PART_SUFFIX}"
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace_file(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _write_beside(address: Address, content: bytes) -> None:
    if not renames_in_one_step(address.fs):
        raise OSError(f"{address.fs.type_name} can neither write nor rename a file in one step")
    beside = f"{address.path}.{uuid.uuid4().hex}{PART_SUFFIX}"
    try:
        with address.fs.open_output_stream(beside) as stream:
            stream.write(content)
        address.fs.move(beside, address.path)
    except BaseException:
        with suppress(OSError):
            address.fs.delete_file(beside)
        raise


def delete_file(address: Address) -> None:
    """Delete the file; OSError as the file system gives it."""
    address.fs.delete_file(address.path)
