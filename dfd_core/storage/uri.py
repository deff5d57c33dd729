"""What can be said of an address from its text alone, without asking any storage.

A local file whose name is not UTF-8 is addressed as a percent-encoded `file://` URI, so that every address is text.
A remote address holds its path as the store spells it, never percent-encoded, up to a `?`, where options begin.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import PurePosixPath
from urllib.parse import quote_from_bytes, unquote_to_bytes

from dfd_core.storage.text import is_text

NATIVE = frozenset(["s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"])
"""Schemes that pyarrow knows; its URIs are percent-encoded."""
BUCKETS = NATIVE - {"hdfs", "viewfs"}
"""Those of them that name objects in a bucket."""
SCHEMES = NATIVE | {"s3a", "az", "adl", "wasb", "wasbs", "sftp", "http", "https", "memory"}
"""Those that an address may have; fsspec is asked for the ones that pyarrow does not know."""
WEB = frozenset(["http", "https"])
"""Those of web servers."""
NO_ADDRESS = "no address has a '?' in its path, or a part that is empty or dots"
"""Why a file of a bucket cannot be named."""
REMOTE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?]*)(?P<path>[^?]*)(?P<query>.*)", re.DOTALL
)
"""The parts of a remote address."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(uri: str) -> bool:
    """Return whether `uri` names something other than a local path.

    >>> is_remote("s3://bucket/a.mp4"), is_remote("file:///a.mp4"), is_remote("a.mp4")
    (True, False, False)
    """
    return bool(_SCHEME.match(uri)) and not uri.startswith("file://")


def scheme_of(uri: str) -> str:
    """Return the scheme of a remote `uri`; empty for a local one."""
    return uri.partition("://")[0] if is_remote(uri) else ""


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


def join_uri(folder: str, *names: str) -> str:
    """Return the address of `names` below `folder`, local or remote."""
    if is_remote(folder):
        base, mark, query = folder.partition("?")
        return posixpath.join(base.rstrip("/"), *names) + mark + query
    return os.path.join(local_path(folder), *names)


def can_join(folder: str, name: str) -> bool:
    """Return whether `join_uri(folder, name)` is the address of that file.

    In a bucket a `?` would begin options, and a part that is empty or dots has no path in pyarrow.

    >>> can_join("s3://bucket", "a?.mp4"), can_join("s3://bucket", "a//b.mp4"), can_join("videos", "a?.mp4")
    (False, False, True)
    """
    return scheme_of(folder) not in NATIVE or ("?" not in name and not {"", ".", ".."} & set(name.split("/")))


def uri_beside(folder: str, path: str) -> str:
    """Return the address of the relative `path` in a remote `folder`; `..` goes up, at most to the top.

    >>> uri_beside("s3://bucket/lists/a?region=x", "../b/c.mp4")
    's3://bucket/lists/b/c.mp4?region=x'
    """
    address, mark, query = folder.partition("?")
    scheme, _, inside = address.partition("://")
    host, *folders = inside.rstrip("/").split("/")
    path = posixpath.normpath(path)
    while path.startswith("../"):
        folders, path = folders[:-1], path[3:]
    return f"{scheme}://{'/'.join([host, *folders, path])}{mark}{query}"


def path_below(path: str, folder: str) -> str:
    """Return a listed `path` of a file system relative to `folder`, its own spelling kept.

    >>> path_below("bucket/a//b.mp4", "bucket/a")
    '/b.mp4'
    """
    top = folder.rstrip("/") + "/" if folder else ""
    return path.removeprefix(top) if path.startswith(top) else posixpath.relpath(path, folder)


def uri_relative_to(uri: str, folder: str) -> str:
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
