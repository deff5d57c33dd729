"""fsspec's file systems for pyarrow, with failures that are OSErrors of the right kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from dfd_core.storage.text import one_line


def fsspec_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system that fsspec knows for `uri`, and the path inside it.

    Raises:
        ValueError: No file system is known for the scheme.
        ImportError: The package of the scheme is not installed.
        OSError: The storage cannot be used.
    """
    import fsspec

    with _os_errors():
        fs, path = fsspec.core.url_to_fs(uri)
    return pafs.PyFileSystem(_FsspecHandler(fs)), path


_OBJECT_STORES = frozenset("s3 s3a gs gcs az abfs abfss adl oss oci memory".split())
"""fsspec's names of stores in which a file appears once it is whole."""


def writes_whole_files(fs: pafs.FileSystem) -> bool:
    """Return whether a new file of `fs` appears at once and whole, as in an object store."""
    if not isinstance(fs, pafs.PyFileSystem):
        return not isinstance(fs, pafs.HadoopFileSystem)
    import fsspec.implementations.memory

    inner = fs.handler.fs
    names = {inner.protocol} if isinstance(inner.protocol, str) else set(inner.protocol)
    return bool(names & _OBJECT_STORES) or isinstance(inner, fsspec.implementations.memory.MemoryFileSystem)


def renames_in_one_step(fs: pafs.FileSystem) -> bool:
    """Return whether `fs` renames a file; what fsspec does for a store that cannot is a copy and a deletion."""
    if not isinstance(fs, pafs.PyFileSystem):
        return True
    import fsspec

    return type(fs.handler.fs).mv is not fsspec.AbstractFileSystem.mv


@contextmanager
def _os_errors() -> Iterator[None]:
    """Turn what a storage's library raises in the block into an OSError; Python's own errors pass unchanged."""
    try:
        yield
    except Exception as error:
        told = _os_error(error)
        if told is error:
            raise
        raise told from error


def _os_error(error: BaseException) -> BaseException:
    """Return an OSError for an error of aiohttp, botocore, Google's or Azure's library; its kind follows the HTTP status.

    fsspec raises FileNotFoundError for everything that a web server refuses, with the refusal as its cause.
    """
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    if cause is not None and not _http_status(cause):
        return cause if isinstance(cause, OSError) else error
    if cause is None and (isinstance(error, OSError) or type(error).__module__ == "builtins"):
        return error
    error = cause or error
    status = _http_status(error)
    kind = {401: PermissionError, 403: PermissionError, 404: FileNotFoundError}.get(status, OSError)
    name = f"{type(error).__name__} {status}" if status else type(error).__name__
    return kind(f"{name}: {one_line(str(getattr(error, 'message', '') or error))}")


def _http_status(error: BaseException) -> int:
    """Return the HTTP status in an error, wherever its library keeps it; 0 if there is none."""
    answer = getattr(error, "response", None)
    facts = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
    said = (
        getattr(place, name, 0) for place in (error, answer) for name in ("status", "status_code", "code")
    )
    numbers = chain([facts.get("HTTPStatusCode")], said)
    return next(
        (int(number) for number in numbers if isinstance(number, int) and number in range(100, 600)), 0
    )


class _FsspecFile:
    """An open file of an fsspec file system, whose failures are OSErrors."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._file, name)
        return _os_errors()(value) if callable(value) else value


class _FsspecHandler(pafs.FSSpecHandler):  # type: ignore[misc]
    """pyarrow's handler of an fsspec file system, whose failures are OSErrors, also where it only asks what is there."""

    def get_file_info(self, paths: Sequence[str]) -> list[pafs.FileInfo]:
        return [self._file_info(path) for path in paths]

    def _file_info(self, path: str) -> pafs.FileInfo:
        try:
            with _os_errors():
                return self._create_file_info(path, self.fs.info(path))
        except FileNotFoundError:
            return pafs.FileInfo(path, pafs.FileType.NotFound)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        if self.fs.info(path)["type"] != "file":
            raise FileNotFoundError(path)
        return pa.PythonFile(_FsspecFile(self.fs.open(path, mode="rb")), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return pa.PythonFile(_FsspecFile(self.fs.open(path, mode="wb")), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return pa.PythonFile(_FsspecFile(self.fs.open(path, mode="ab")), mode="w")


for _request in (
    *("get_file_info_selector", "open_input_stream", "open_input_file", "open_output_stream"),
    *("open_append_stream", "create_dir", "delete_dir", "delete_dir_contents", "delete_root_dir_contents"),
    *("delete_file", "move", "copy_file"),
):
    setattr(_FsspecHandler, _request, _os_errors()(getattr(_FsspecHandler, _request)))
