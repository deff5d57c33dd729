"""Writes on a local disk that survive a power failure."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs


def sync(path: str) -> None:
    """Make the content of a local file, or the names in a local folder, survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without this for folders
            raise
    finally:
        os.close(handle)


def replace_file(new: str, path: str) -> None:
    """Give the synced local file `new` the name `path`, so that a reader and a power failure see the old or the new."""
    os.replace(new, path)
    sync(os.path.dirname(path))


class _SyncedFile(io.FileIO):
    """A file that is on the disk, with its name, once it is closed."""

    def close(self) -> None:
        """Sync the content and the name, then close."""
        if not self.closed:
            try:
                os.fsync(self.fileno())
                sync(os.path.dirname(os.path.abspath(os.fsdecode(self.name))))
            finally:
                super().close()


class _DurableHandler(pafs.FileSystemHandler):  # type: ignore[misc]
    """The local file system, with files and renames that survive a power failure."""

    def __init__(self) -> None:
        self._fs = pafs.LocalFileSystem()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _DurableHandler)

    def __ne__(self, other: object) -> bool:
        return not isinstance(other, _DurableHandler)

    def __hash__(self) -> int:
        return hash(type(self))

    def get_type_name(self) -> str:
        """Return the name by which errors call it."""
        return "durable local"

    def normalize_path(self, path: str) -> str:
        """Return `path` as the local file system spells it."""
        return str(self._fs.normalize_path(path))

    def get_file_info(self, paths: Sequence[str]) -> list[pafs.FileInfo]:
        """Return what is at each of `paths`."""
        return list(self._fs.get_file_info(paths))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        """Return what `selector` names."""
        return list(self._fs.get_file_info(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        """Make a folder, and those above it if `recursive`; their names are synced."""
        parent = os.path.dirname(path)
        if recursive and not os.path.isdir(parent):
            self.create_dir(parent, recursive)
        if not os.path.isdir(path):
            self._fs.create_dir(path, recursive=False)
            sync(parent)

    def delete_dir(self, path: str) -> None:
        """Delete a folder."""
        self._fs.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        """Delete what is in a folder."""
        self._fs.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        """Refuse."""
        raise PermissionError("The root folder is not emptied")

    def delete_file(self, path: str) -> None:
        """Delete a file."""
        self._fs.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        """Rename a file; its content is synced before, and its name after."""
        sync(src)
        replace_file(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        """Copy a file."""
        self._fs.copy_file(src, dest)
        sync(dest)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Return the file, opened for reading."""
        return self._fs.open_input_stream(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Return the file, opened for reading at random."""
        return self._fs.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        """Return a new file, which is on the disk once it is closed."""
        return pa.PythonFile(_SyncedFile(path, "w"), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        """Return a file that grows, and is on the disk once it is closed."""
        return pa.PythonFile(_SyncedFile(path, "a"), mode="w")


DURABLE = pafs.PyFileSystem(_DurableHandler())
"""The local file system for whoever commits: what it has closed or renamed survives a power failure."""
