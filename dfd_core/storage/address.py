"""An address parsed once: a local path, `s3://`, `gs://`, `hdfs://` or any fsspec URI, and the file system behind it."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from functools import reduce
from operator import truediv
from typing import Any, cast
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

from dfd_core.errors import RequestError
from dfd_core.storage.durable import DURABLE
from dfd_core.storage.fsspec_bridge import fsspec_filesystem
from dfd_core.storage.secrets import has_credentials, redacted
from dfd_core.storage.text import as_text, is_text, one_line
from dfd_core.storage.uri import (
    BUCKETS,
    NATIVE,
    NO_ADDRESS,
    REMOTE,
    SCHEMES,
    can_join,
    is_remote,
    join_uri,
    local_path,
    local_uri,
    scheme_of,
)

_LOCAL = pafs.LocalFileSystem()


class NoAddressError(RequestError):
    """Nothing can be at such an address."""


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A file or a folder: how it was written, its file system, and its path there.

    Addresses are equal if they were written alike. A pickled address is parsed again where it arrives, so that no
    credentials travel.

    Attributes:
        uri: As it was written; local paths may hold bytes that are not UTF-8.
        fs: The file system.
        path: Inside `fs`; absolute if local.
    """

    uri: str
    fs: pafs.FileSystem = field(compare=False)
    path: str = field(compare=False)

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Return the address that `uri` names.

        Raises:
            RequestError: No file system is known for the URI's scheme, it carries credentials, or it is no address.
        """
        return cls(uri, *_filesystem(uri))

    @property
    def is_local(self) -> bool:
        """Whether it lies on a file system of this machine."""
        return isinstance(self.fs, pafs.LocalFileSystem)

    @property
    def durable_fs(self) -> pafs.FileSystem:
        """The file system for a write that must survive a power failure once it is closed."""
        return DURABLE if self.is_local else self.fs

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path.rstrip("/"))

    @property
    def parent(self) -> str:
        """The path of the folder that holds it, inside `fs`."""
        return posixpath.dirname(self.path.rstrip("/"))

    def __truediv__(self, name: str) -> Address:
        """Return the address of `name` below this folder.

        Raises:
            RequestError: The storage has no address for such a name.
        """
        if not can_join(self.uri, name):
            raise NoAddressError(f"{as_text(name)!r} in {str(self)!r}: {NO_ADDRESS}")
        uri = join_uri(self.uri, name)
        if isinstance(self.fs, pafs.PyFileSystem):  # fsspec has its own rules for a path
            return Address.parse(uri)
        return Address(uri, self.fs, posixpath.join(self.path, name))

    def below(self, path: str) -> Address:
        """Return the address of the relative `path`, in which `/` separates the names."""
        return reduce(truediv, path.split("/"), self)

    def with_suffix(self, suffix: str) -> Address:
        """Return the address whose last name ends in `suffix` too."""
        base, mark, query = self.uri.partition("?") if is_remote(self.uri) else (self.path, "", "")
        return Address.parse(base.rstrip("/") + suffix + mark + query)

    def __str__(self) -> str:
        return as_text(self.uri)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Address.parse, (local_uri(self.path) if self.is_local else self.uri,)


def _filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    if has_credentials(uri):
        raise RequestError(
            "Expected an address without credentials in it. Give them in the environment instead "
            "(for example AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)."
        )
    if not is_remote(uri):
        path = local_path(uri)
        if "\0" in path:
            raise NoAddressError("No local path holds a null byte")
        return _LOCAL, os.path.abspath(path)
    if not is_text(uri):
        raise NoAddressError(f"Expected a remote address in UTF-8. Received: {as_text(uri)!r}")
    scheme = scheme_of(uri)
    if scheme not in SCHEMES or ("::" in uri and scheme not in NATIVE):
        raise NoAddressError(
            f"No storage is known for {redacted(uri)!r}. Expected one of {', '.join(sorted(SCHEMES))}, and no chain"
        )
    if scheme not in NATIVE:
        return _of_fsspec(uri)
    try:
        return cast("tuple[pafs.FileSystem, str]", pafs.FileSystem.from_uri(_percent_encoded(uri)))
    except pa.ArrowNotImplementedError:  # this pyarrow was built without the scheme
        return _of_fsspec(uri)
    except pa.ArrowInvalid as error:
        raise NoAddressError(f"{uri!r} is no address of a file or folder: {one_line(error)}") from error
    except OSError as error:
        raise RequestError(f"The storage of {uri!r} cannot be used: {one_line(error)}") from error


def _of_fsspec(uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        return fsspec_filesystem(uri)
    except (ValueError, ImportError) as error:
        raise RequestError(f"No storage is known for {uri!r}: {one_line(error)}") from error
    except OSError as error:
        raise RequestError(f"The storage of {uri!r} cannot be used: {one_line(error)}") from error


def _percent_encoded(uri: str) -> str:
    parts = REMOTE.match(uri)
    assert parts is not None
    path = parts["path"].rstrip("/") or parts["path"][:1]
    if "//" in path and parts["scheme"] in BUCKETS:
        raise NoAddressError(f"{uri!r} is no address of a file or folder: a part of its path is empty")
    return f"{parts['scheme']}://{parts['host']}{quote(path, safe='/:@')}{parts['query']}"
