"""The rows of a manifest file → its videos: addresses, names and the user's own columns."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from itertools import repeat

import pyarrow as pa

from dfd_core.errors import ManifestError
from dfd_core.sources.columns import parts_of, texts_of, values_of
from dfd_core.sources.manifest import (
    File,
    manifest_table,
    refuse_duplicates,
    refuse_reserved,
    refuse_rows,
    refuse_unstorable,
    with_text_labels,
)
from dfd_core.sources.manifest_file import read_columns
from dfd_core.sources.redaction import redacted_columns
from dfd_core.sources.suffixes import suffix_of
from dfd_core.sources.walk import ALLOW_HTTP, local_file
from dfd_core.storage.secrets import has_credentials
from dfd_core.storage.text import name_id
from dfd_core.storage.uri import (
    NATIVE,
    SCHEMES,
    WEB,
    can_join,
    is_remote,
    local_path,
    scheme_of,
    uri_beside,
    uri_relative_to,
)


def read_manifest(source: str, path: str, *, allow_http: bool) -> pa.Table:
    """Return MANIFEST and the own columns of the manifest at the address `source`, `path` in its file system.

    Raises:
        ManifestError: It breaks the rules; the message names the rows.
    """
    given = read_columns(source, suffix_of(path))
    if "uri" not in given.column_names:
        raise ManifestError(f"Expected a column 'uri' in the manifest. Received: {given.column_names}")
    if given.num_rows == 0:
        raise ManifestError("The manifest has no rows")
    refuse_reserved(given.column_names)
    folder = _manifest_folder(source)
    _refuse_uris(given, lambda uri: not uri, "has no uri")
    _refuse_uris(given, lambda uri: "\0" in uri, "has a null byte in its uri")
    if not can_join(folder, "?"):
        _refuse_uris(
            given,
            lambda uri: "?" in uri and not _stands_alone(uri),
            "has a '?' in its uri, where the options of an address would begin",
        )
    _refuse_uris(given, lambda uri: has_credentials(_address(uri, folder)), "has credentials in its uri")
    _refuse_uris(
        given, _is_foreign, f"has another address than a local path or one of {', '.join(sorted(SCHEMES))}"
    )
    if not allow_http:
        _refuse_uris(given, lambda uri: scheme_of(uri) in WEB, f"has a web address. {ALLOW_HTTP}")
    given = redacted_columns(with_text_labels(given), [name for name in given.column_names if name != "uri"])
    ids = _ids(given, folder)
    refuse_duplicates(ids)
    own = {name: given.column(name) for name in given.column_names if name not in ("uri", "video_id")}
    refuse_unstorable(own)
    rows = zip(texts_of(given, "uri"), values_of(ids), strict=True)
    files = (_manifest_file(_address(uri, folder), video_id) for uri, video_id in rows)
    return manifest_table(files, own)


def _refuse_uris(given: pa.Table, is_at_fault: Callable[[str], bool], fault: str) -> None:
    refuse_rows([row for row, uri in enumerate(texts_of(given, "uri")) if is_at_fault(uri)], fault)


def _is_foreign(uri: str) -> bool:
    """Return whether an address is of a storage that is not known, or a chain of several, as fsspec has them."""
    scheme = scheme_of(uri)
    return is_remote(uri) and (scheme not in SCHEMES or ("::" in uri and scheme not in NATIVE))


def _ids(given: pa.Table, folder: str) -> pa.ChunkedArray:
    """Return the `video_id` of every row: its own, or what its uri says."""
    chosen = texts_of(given, "video_id") if "video_id" in given.column_names else repeat("", given.num_rows)
    ids = (own or _default_id(uri, folder) for own, uri in zip(chosen, texts_of(given, "uri"), strict=True))
    return pa.chunked_array((pa.array(part, pa.string()) for part in parts_of(ids)), pa.string())


def _manifest_folder(source: str) -> str:
    if is_remote(source):
        address, mark, query = source.partition("?")
        return posixpath.dirname(address) + mark + query
    return os.path.dirname(os.path.abspath(source))


def _default_id(uri: str, folder: str) -> str:
    if is_remote(uri):
        return uri_relative_to(uri, folder).partition("?")[0]
    path = local_path(uri)
    if not os.path.isabs(path):
        return name_id(posixpath.normpath(path))
    return name_id(uri_relative_to(path, folder))


def _stands_alone(uri: str) -> bool:
    return is_remote(uri) or os.path.isabs(local_path(uri))


def _address(uri: str, folder: str) -> str:
    """Return where `uri` of a manifest in `folder` is: a remote address, or an absolute local path."""
    if is_remote(uri):
        return uri
    path = local_path(uri)
    if is_remote(folder) and not _stands_alone(uri):
        return uri_beside(folder, path)
    return os.path.normpath(os.path.join(folder, path))


def _manifest_file(address: str, video_id: str) -> File:
    if is_remote(address):
        return File(address, video_id, None, None)
    return local_file(address, video_id)
