"""Addresses and the file systems behind them: local paths, `s3://`, `gs://`, `hdfs://` and any fsspec URI.

A local file whose name is not UTF-8 is addressed as a percent-encoded `file://` URI, so that every address is text.
A remote address holds its path as the store spells it, never percent-encoded, up to a `?`, where options begin.
Addresses with credentials inside are refused: they would end up in logs and in Parquet.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast
from urllib.parse import parse_qsl, quote, quote_from_bytes, unquote_to_bytes

import pyarrow as pa
import pyarrow.fs as pafs
from filelock import FileLock

from dfd_core.errors import (
    ModelError,
    RequestError,
    VideoEmptyError,
    VideoForbiddenError,
    VideoMissingError,
    VideoStorageError,
)

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_AWS_EXCEPTION = re.compile(r"ExceptionName: (\w+) Message: (.*?)(?: \(Request ID|$)")
_REMOTE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?]*)(?P<path>[^?]*)(?P<query>.*)", re.DOTALL
)
_NATIVE = frozenset(["s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"])
"""Schemes that pyarrow knows; its URIs are percent-encoded."""
_BUCKETS = _NATIVE - {"hdfs", "viewfs"}
NO_ADDRESS = "no address has a '?' in its path, or a part that is empty or dots"
"""Why a file of a bucket cannot be named."""
_NAME_CONTAINER = frozenset(["abfs", "abfss", "wasb", "wasbs"])
"""Azure's schemes: `abfs://container@account.dfs.core.windows.net/path`."""
_SECRET_QUERY_KEYS = re.compile(
    r"(?i)key|secret|token|signature|passw|passphrase|credential|authorization"
    r"|(?<![a-z])(sig|sas|o?auth|jwt|pwd|pass|bearer)(?![a-z])"
)


class _NoAddressError(RequestError):
    """Nothing can be at such an address."""


RETRY_DELAYS_S = (0.5, 2.0, 8.0)
"""Seconds before each further attempt at a video whose storage failed."""


def is_remote(uri: str) -> bool:
    """Return whether `uri` names something other than a local path.

    >>> is_remote("s3://bucket/a.mp4"), is_remote("file:///a.mp4"), is_remote("a.mp4")
    (True, False, False)
    """
    return bool(_SCHEME.match(uri)) and not uri.startswith("file://")


def has_credentials(uri: str) -> bool:
    """Return whether `uri` carries a user name, a password, or a signed or secret query.

    >>> has_credentials("s3://key:secret@bucket/a"), has_credentials("s3://bucket/a?region=eu-west-1")
    (True, False)
    >>> has_credentials("abfs://container@account.dfs.core.windows.net/a")
    False
    """
    parts = _REMOTE.match(uri)
    if parts is None or not is_remote(uri):
        return False
    user, at, _ = parts["host"].rpartition("@")
    if at and (parts["scheme"].lower() not in _NAME_CONTAINER or ":" in user):
        return True
    return any(_SECRET_QUERY_KEYS.search(key) for key, _ in parse_qsl(parts["query"].removeprefix("?")))


def local_path(uri: str) -> str:
    """Return the local path that `uri` names; bytes that are not UTF-8 come back as `os.fsdecode` gives them."""
    if uri.startswith("file://"):
        return os.fsdecode(unquote_to_bytes(uri.removeprefix("file://").removeprefix("localhost")))
    return uri


def local_uri(path: str) -> str:
    """Return the absolute address of local `path` as valid UTF-8 text.

    Plain for an ordinary name; a percent-encoded `file://` URI where the name is not UTF-8.
    """
    path = os.path.abspath(path)
    return path if is_text(path) else "file://" + quote_from_bytes(os.fsencode(path))


def is_text(name: str) -> bool:
    """Return whether `name` holds no undecodable bytes, so that Parquet can store it."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def as_text(name: str) -> str:
    r"""Return `name` unchanged if it is text, otherwise with its undecodable bytes percent-encoded.

    >>> as_text("caf\udce9.mp4")
    'caf%E9.mp4'
    """
    return re.sub("[\ud800-\udfff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def join(folder: str, *names: str) -> str:
    """Return the address of `names` below `folder`, local or remote."""
    if is_remote(folder):
        base, mark, query = folder.partition("?")
        return posixpath.join(base.rstrip("/"), *names) + mark + query
    return os.path.join(local_path(folder), *names)


def beside(folder: str, path: str) -> str:
    """Return the address of the relative `path` in a remote `folder`; `..` goes up, at most to the top.

    >>> beside("s3://bucket/lists/a?region=x", "../b/c.mp4")
    's3://bucket/lists/b/c.mp4?region=x'
    """
    address, mark, query = folder.partition("?")
    scheme, _, inside = address.partition("://")
    host, *folders = inside.rstrip("/").split("/")
    path = posixpath.normpath(path)
    while path.startswith("../"):
        folders, path = folders[:-1], path[3:]
    return f"{scheme}://{'/'.join([host, *folders, path])}{mark}{query}"


def below(path: str, folder: str) -> str:
    """Return a listed `path` of a file system relative to `folder`, its own spelling kept.

    >>> below("bucket/a//b.mp4", "bucket/a")
    '/b.mp4'
    """
    top = folder.rstrip("/") + "/" if folder else ""
    return path.removeprefix(top) if path.startswith(top) else posixpath.relpath(path, folder)


def can_join(folder: str, name: str) -> bool:
    """Return whether `join(folder, name)` is the address of that file.

    In a bucket a `?` would begin options, and a part that is empty or dots has no path in pyarrow.

    >>> can_join("s3://bucket", "a?.mp4"), can_join("s3://bucket", "a//b.mp4"), can_join("videos", "a?.mp4")
    (False, False, True)
    """
    return _scheme(folder) not in _NATIVE or ("?" not in name and not {"", ".", ".."} & set(name.split("/")))


def _scheme(uri: str) -> str:
    return uri.partition("://")[0] if is_remote(uri) else ""


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of `uri` and the path inside it.

    Raises:
        RequestError: No file system is known for the URI's scheme, it carries credentials, or it is no address.
    """
    if has_credentials(uri):
        raise RequestError(
            "Expected an address without credentials in it. Give them in the environment instead "
            "(for example AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)."
        )
    if not is_remote(uri):
        return pafs.LocalFileSystem(), os.path.abspath(local_path(uri))
    if not is_text(uri):
        raise _NoAddressError(f"Expected a remote address in UTF-8. Received: {as_text(uri)!r}")
    if _scheme(uri) not in _NATIVE:
        return _fsspec_filesystem(uri)
    try:
        return cast("tuple[pafs.FileSystem, str]", pafs.FileSystem.from_uri(_percent_encoded(uri)))
    except pa.ArrowNotImplementedError:  # this pyarrow was built without the scheme
        return _fsspec_filesystem(uri)
    except pa.ArrowInvalid as error:
        raise _NoAddressError(f"{uri!r} is no address of a file or folder: {one_line(error)}") from error
    except OSError as error:
        raise RequestError(f"The storage of {uri!r} cannot be used: {one_line(error)}") from error


def _percent_encoded(uri: str) -> str:
    parts = _REMOTE.match(uri)
    assert parts is not None
    path = parts["path"].rstrip("/") or parts["path"][:1]
    if "//" in path and parts["scheme"] in _BUCKETS:
        raise _NoAddressError(f"{uri!r} is no address of a file or folder: a part of its path is empty")
    return f"{parts['scheme']}://{parts['host']}{quote(path, safe='/:@')}{parts['query']}"


def _fsspec_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    import fsspec

    try:
        with _os_errors():
            fs, path = fsspec.core.url_to_fs(uri.removeprefix("fsspec+"))
    except (ValueError, ImportError) as error:
        raise RequestError(f"No storage is known for {uri!r}: {one_line(error)}") from error
    except OSError as error:
        raise RequestError(f"The storage of {uri!r} cannot be used: {one_line(error)}") from error
    return pafs.PyFileSystem(_FsspecHandler(fs)), path


@contextmanager
def _os_errors() -> Iterator[None]:
    """Make an OSError of what the library of a storage raises in the block; Python's own errors stay what they are."""
    try:
        yield
    except Exception as error:
        told = _os_error(error)
        if told is error:
            raise
        raise told from error


def _os_error(error: BaseException) -> BaseException:
    """Return what an error of aiohttp, botocore, Google's or Azure's library says, of the kind that its status names.

    fsspec says FileNotFoundError for whatever a web server refuses; the refusal is its cause.
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
    """Return the status that a server answered with, as each library keeps it; 0 if there is none."""
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
    """pyarrow's way to an fsspec file system, with failures that are OSErrors, and that no question swallows."""

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


def open_video(uri: str) -> BinaryIO:
    """Return the video at `uri`, opened for reading and seekable.

    Raises:
        VideoMissingError: Nothing is there, or it is not a file.
        VideoForbiddenError: It may not be read.
        VideoEmptyError: It has zero bytes.
        VideoStorageError: The storage failed.
    """
    try:
        file = _open_local(local_path(uri)) if not is_remote(uri) else _open_remote(uri)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoMissingError("Nothing is at this address") from error
    except IsADirectoryError as error:
        raise VideoMissingError("Not a regular file is at this address") from error
    except PermissionError as error:
        raise VideoForbiddenError("The file may not be read") from error
    except _NoAddressError as error:
        raise VideoMissingError("Nothing can be at this address") from error
    except (OSError, RequestError) as error:
        if "AWS Error ACCESS_DENIED" in str(error):
            raise VideoForbiddenError("The file may not be read") from error
        raise VideoStorageError(f"The storage failed: {reason(error)}") from error
    if file.seek(0, os.SEEK_END) == 0:
        file.close()
        raise VideoEmptyError("The file has zero bytes")
    file.seek(0)
    return file


def reason(error: BaseException) -> str:
    """Return what the system says of `error`, without the address where it says one.

    >>> reason(OSError("When reading information for key 'a' in bucket 'b': AWS Error SLOW_DOWN during HeadObject"))
    'AWS Error SLOW_DOWN during HeadObject'
    """
    text = one_line(getattr(error, "strerror", None) or error)
    named = _AWS_EXCEPTION.search(text)
    if named:
        return f"{named[2].rstrip('. ')} ({named[1]})"
    if "AWS Error" in text:
        return text[text.index("AWS Error") :]
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else text or type(error).__name__


def refusal(uri: str, error: OSError) -> str:
    """Return why the storage refused a request for `uri`, in one line.

    An S3 server answers a question about one object without a reason; it gives one to a request for a list.
    """
    if "AWS Error" in str(error):
        fs, path = filesystem(uri)
        try:
            fs.get_file_info(pafs.FileSelector(posixpath.join(path, "-"), allow_not_found=True))
        except OSError as told:
            return reason(told)
    return reason(error)


def _open_local(path: str) -> BinaryIO:
    if "\0" in path:
        raise FileNotFoundError("The name holds a null byte")
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise VideoMissingError("Not a regular file is at this address")
    return open(path, "rb", buffering=0)


def _open_remote(uri: str) -> BinaryIO:
    from dfd_core.storage.range_file import RangeFile

    fs, path = filesystem(uri)
    return cast(BinaryIO, RangeFile(fs.open_input_file(path)))


def retried(
    attempt: Callable[[], dict[str, Any]], *, delays_s: Sequence[float] = RETRY_DELAYS_S
) -> dict[str, Any]:
    """Return the row of `attempt`, made again after each delay for as long as the storage is what failed.

    Args:
        attempt: Makes a row with an `error_kind`.
        delays_s: Seconds to wait before each further attempt.
    """
    for delay_s in delays_s:
        row = attempt()
        if row["error_kind"] != VideoStorageError.kind:
            return row
        time.sleep(delay_s)
    return attempt()


def read_bytes(uri: str) -> bytes:
    """Return the whole content at `uri`; OSError as the file system gives it."""
    fs, path = filesystem(uri)
    with fs.open_input_stream(path) as stream:
        return cast(bytes, stream.read())


def local_copy(uri: str) -> str:
    """Return a local path with what is at `uri`: `uri` itself, or a copy of a remote file or folder.

    The copy is made once for each machine and version (path, size and modification time of its files).

    Raises:
        ModelError: The storage cannot be read, or nothing is there.
    """
    if not is_remote(uri):
        return uri
    fs, path = filesystem(uri)
    try:
        info = fs.get_file_info(path)
        infos = [info] if info.type == pafs.FileType.File else fs.get_file_info(pafs.FileSelector(path))
        files = [file for file in infos if file.type == pafs.FileType.File]
        version = repr([uri, *((file.path, file.size, file.mtime_ns) for file in files)])
        name = "dfd-copy-" + hashlib.sha256(version.encode()).hexdigest()[:24]
        folder = os.path.join(_private_folder(), name)
        with FileLock(folder + ".lock"):  # the other workers of this machine wait for the one that copies
            if not os.path.isdir(folder):
                _copy_files(fs, [file.path for file in files], folder)
    except OSError as error:
        raise ModelError(f"The model at {uri!r} cannot be read: {refusal(uri, error)}") from error
    return os.path.join(folder, posixpath.basename(path)) if info.type == pafs.FileType.File else folder


def _private_folder() -> str:
    """Return a folder of this machine that nobody else can write to.

    Raises:
        OSError: Someone else has put something there.
    """
    folder = os.path.join(tempfile.gettempdir(), f"dfd-{os.getuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    facts = os.lstat(folder)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise PermissionError(f"{folder} is not a folder of this user alone")
    return folder


def _copy_files(fs: pafs.FileSystem, paths: Sequence[str], folder: str) -> None:
    """Copy files to a new local `folder`, which appears whole or not at all."""
    beside = tempfile.mkdtemp(prefix="part-", dir=os.path.dirname(folder))
    try:
        for path in paths:
            copy = os.path.join(beside, posixpath.basename(path))
            pafs.copy_files(path, copy, source_filesystem=fs)
        os.rename(beside, folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


PART_SUFFIX = ".part"
"""Ends the name of a local file that is being written, and of one whose writer was killed."""


def write_bytes(uri: str, content: bytes) -> None:
    """Write `content` at `uri` so that a reader sees the old or the new content, never a part.

    Local files are written beside and renamed; an object store's write is atomic by itself.
    """
    fs, path = filesystem(uri)
    if not isinstance(fs, pafs.LocalFileSystem):
        with fs.open_output_stream(path) as stream:
            stream.write(content)
        return
    beside = f"{path}.{os.getpid()}{PART_SUFFIX}"
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def delete_file(uri: str) -> None:
    """Delete the file at `uri`; OSError as the file system gives it."""
    fs, path = filesystem(uri)
    fs.delete_file(path)


def exists(uri: str) -> bool:
    """Return whether a file or a folder is at `uri`."""
    fs, path = filesystem(uri)
    return bool(fs.get_file_info(path).type != pafs.FileType.NotFound)


def relative_to(uri: str, folder: str) -> str:
    """Return `uri` relative to `folder` if it lies below it, otherwise `uri` itself."""
    try:
        return (
            str(PurePosixPath(uri).relative_to(folder))
            if not is_remote(uri)
            else _relative_remote(uri, folder)
        )
    except ValueError:
        return uri


def _relative_remote(uri: str, folder: str) -> str:
    prefix = folder.partition("?")[0].rstrip("/") + "/"
    return uri.removeprefix(prefix).partition("?")[0] if uri.startswith(prefix) else uri


def one_line(error: BaseException | str) -> str:
    """Return an error's message on one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:299] + "…"


def open_text(uri: str) -> IO[Any]:
    """Return the text file at `uri`, opened for reading as UTF-8 with or without a byte-order mark."""
    import io

    return io.TextIOWrapper(io.BytesIO(read_bytes(uri)), encoding="utf-8-sig", newline="")
