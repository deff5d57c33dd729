"""Any source of videos → the MANIFEST table: a file, a folder, a glob, or a manifest in CSV, Parquet or JSON lines."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from dfd_core.errors import ManifestError
from dfd_core.schemas import MANIFEST, VIDEOS, check
from dfd_core.storage import address as storage

VIDEO_SUFFIXES = frozenset(
    "3g2 3gp asf avi divx dv f4v flv h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg mjpg mkv mod mov mp4 mpe mpeg mpg "
    "mpv mts mxf nut obu ogm ogv qt rm rmvb tod ts vob webm wmv wtv y4m".split()
)
"""File name endings that a folder walk takes for videos, lower case."""

MANIFEST_SUFFIXES = ("csv", "parquet", "jsonl")
LABELS = ("real", "fake")
_RESERVED = frozenset([*MANIFEST.names, *VIDEOS.names]) - {"video_id", "uri"}
_NAMED_ROWS = 5
_MOST_CELL_CHARACTERS = 1 << 24
_ROWS_AT_ONCE = 1 << 16
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Source:
    """A list of videos.

    Attributes:
        table: MANIFEST, then the user's own columns unchanged.
        skipped: Files that a folder held and that are not named like a video, counted by ending.
        unlisted: Folders, and files of a bucket, that could not be listed, with the reason.
    """

    table: pa.Table
    skipped: Counter[str]
    unlisted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    uri: str
    video_id: str
    size_bytes: int | None
    modified_ns: int | None


def read_source(source: str) -> Source:
    """Return the videos that `source` names: a video file, a folder, a glob, or a manifest; local or remote.

    Raises:
        ManifestError: The source does not exist, holds no video, or is a manifest that breaks the rules.
        RequestError: The address has credentials in it, or no storage is known for it.
    """
    if not storage.is_remote(source):
        source = storage.local_path(source)
    fs, path = storage.filesystem(source)
    try:
        return _read(source, fs, path)
    except PermissionError as error:
        raise ManifestError(f"The source {storage.as_text(source)!r} may not be read") from error
    except OSError as error:
        raise ManifestError(
            f"The source {source!r} cannot be read: {storage.refusal(source, error)}"
        ) from error


def _read(source: str, fs: pafs.FileSystem, path: str) -> Source:
    local = isinstance(fs, pafs.LocalFileSystem)
    if local and not os.path.lexists(path) and glob.has_magic(source):
        return _from_files(sorted(_glob_local(source), key=_walk_order), source)
    if local and os.path.isdir(path):
        return _from_local_folder(path)
    if local and not os.path.lexists(path):
        raise ManifestError(f"Nothing is at the source {storage.as_text(source)!r}")
    if not local:
        kind = fs.get_file_info(path).type
        if kind == pafs.FileType.NotFound and glob.has_magic(source.partition("?")[0]):
            return _from_remote_glob(source, fs, path)
        if kind == pafs.FileType.Directory:
            return _from_remote_folder(source, fs, path)
        if kind == pafs.FileType.NotFound:
            raise ManifestError(f"Nothing is at the source {source!r}")
    if _suffix(path) in MANIFEST_SUFFIXES:
        return _from_manifest(source, path)
    file = (
        _local_file(path, os.path.basename(path))
        if local
        else _remote_file(source, fs.get_file_info(path), path)
    )
    return _from_files([file], source)


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1][1:].lower()


# --- folders, globs, single files ---------------------------------------------------------------------------------


def _from_local_folder(folder: str) -> Source:
    skipped: Counter[str] = Counter()
    unlisted: list[str] = []
    files = []

    def cannot_list(error: OSError) -> None:
        unlisted.append(f"{error.filename}: {error.strerror}")

    for here, folders, names in os.walk(folder, onerror=cannot_list):
        folders.sort()
        links = [path for name in folders if os.path.islink(path := os.path.join(here, name))]
        unlisted += [f"{path}: a link to a folder" for path in links]
        for name in sorted(names):
            if _suffix(name) in VIDEO_SUFFIXES:
                path = os.path.join(here, name)
                files.append(_local_file(path, os.path.relpath(path, folder)))
            else:
                skipped[_suffix(name)] += 1
    return _from_files(files, folder, skipped, tuple(storage.as_text(reason) for reason in unlisted))


def _from_remote_folder(source: str, fs: pafs.FileSystem, path: str) -> Source:
    infos = _remote_infos(fs, path)
    videos = [info for info in infos if _suffix(info.path) in VIDEO_SUFFIXES]
    skipped = Counter(_suffix(info.path) for info in infos if _suffix(info.path) not in VIDEO_SUFFIXES)
    files, unlisted = _remote_files(source, path, videos)
    return _from_files(files, source, skipped, unlisted)


def _from_remote_glob(source: str, fs: pafs.FileSystem, pattern: str) -> Source:
    from fsspec.utils import glob_translate

    address, mark, options = source.partition("?")
    folder = _fixed_part(address) + mark + options
    if not storage.is_remote(folder):
        raise ManifestError(f"Expected a pattern below a bucket or host. Received: {source!r}")
    # As in a local pattern, ** beside other characters is *, and a / at the end asks for folders.
    parts = [part if part == "**" else re.sub(r"\*+", "*", part) for part in pattern.split("/")]
    matches = re.compile(glob_translate("/".join(parts) + "/" * address.endswith("/"))).match
    top = storage.filesystem(folder)[1]
    infos = [info for info in _remote_infos(fs, top) if matches(info.path)]
    files, unlisted = _remote_files(folder, top, infos)
    return _from_files(files, source, unlisted=unlisted)


def _remote_infos(fs: pafs.FileSystem, folder: str) -> list[pafs.FileInfo]:
    infos = fs.get_file_info(pafs.FileSelector(folder, recursive=True, allow_not_found=True))
    return [info for info in infos if info.type == pafs.FileType.File]


def _remote_files(
    source: str, folder: str, infos: Iterable[pafs.FileInfo]
) -> tuple[list[_File], tuple[str, ...]]:
    """Return the files of `infos`, whose paths are below `folder` at `source`, and those that have no address."""
    files, unlisted = [], []
    for info in infos:
        name = storage.below(info.path, folder)
        if storage.can_join(source, name):
            files.append(_remote_file(storage.join(source, name), info, name))
        else:
            unlisted.append(f"{info.path}: {storage.NO_ADDRESS}")
    return sorted(files, key=_walk_order), tuple(unlisted)


def _walk_order(file: _File) -> tuple[list[str], str]:
    """Return what sorts files as a walk over a local folder meets them: a folder's own before its folders'."""
    *folders, name = file.video_id.split("/")
    return folders, name


def _glob_local(pattern: str) -> Iterator[_File]:
    root = os.path.abspath(_fixed_part(pattern))
    for path in glob.glob(pattern, recursive=True, include_hidden=True):
        if not os.path.isdir(path):
            path = os.path.abspath(path)
            yield _local_file(path, os.path.relpath(path, root))


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    magic = next(position for position, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:magic]) or ("/" if pattern.startswith("/") else ".")


def _local_file(path: str, video_id: str) -> _File:
    try:
        facts = os.stat(path)
    except OSError:
        return _File(storage.local_uri(path), storage.as_text(video_id), None, None)
    return _File(storage.local_uri(path), storage.as_text(video_id), facts.st_size, facts.st_mtime_ns)


def _remote_file(uri: str, info: pafs.FileInfo, video_id: str) -> _File:
    return _File(uri, video_id, info.size, info.mtime_ns)


def _from_files(
    files: Sequence[_File], source: str, skipped: Counter[str] | None = None, unlisted: tuple[str, ...] = ()
) -> Source:
    if not files:
        seen = f" ({sum(skipped.values())} other files)" if skipped else ""
        left = f"; {len(unlisted)} not listed, the first: {unlisted[0]}" if unlisted else ""
        raise ManifestError(f"No video is at the source {storage.as_text(source)!r}{seen}{left}")
    _refuse_duplicates(pa.chunked_array([[file.video_id for file in files]], pa.string()))
    return Source(_manifest_table(files, {}), skipped or Counter(), unlisted)


# --- manifests ----------------------------------------------------------------------------------------------------


def _from_manifest(source: str, path: str) -> Source:
    given = _manifest_columns(source, _suffix(path))
    if "uri" not in given.column_names:
        raise ManifestError(f"Expected a column 'uri' in the manifest. Received: {given.column_names}")
    if given.num_rows == 0:
        raise ManifestError("The manifest has no rows")
    refuse_reserved(given.column_names)
    folder = _manifest_folder(source)
    _refuse_uris(given, lambda uri: not uri, "has no uri")
    _refuse_uris(given, lambda uri: "\0" in uri, "has a null byte in its uri")
    if not storage.can_join(folder, "?"):
        _refuse_uris(
            given,
            lambda uri: "?" in uri and not _stands_alone(uri),
            "has a '?' in its uri, where the options of an address would begin",
        )
    _refuse_uris(
        given, lambda uri: storage.has_credentials(_address(uri, folder)), "has credentials in its uri"
    )
    given = with_text_labels(given)
    ids = _ids(given, folder)
    _refuse_duplicates(ids)
    own = {name: given.column(name) for name in given.column_names if name not in ("uri", "video_id")}
    _refuse_unstorable(own)
    rows = zip(_texts(given, "uri"), _values(ids), strict=True)
    files = (_manifest_file(_address(uri, folder), video_id) for uri, video_id in rows)
    return Source(_manifest_table(files, own), Counter())


def _refuse_uris(given: pa.Table, is_at_fault: Callable[[str], bool], fault: str) -> None:
    refuse_rows([row for row, uri in enumerate(_texts(given, "uri")) if is_at_fault(uri)], fault)


def _ids(given: pa.Table, folder: str) -> pa.ChunkedArray:
    """Return the `video_id` of every row: its own, or what its uri says."""
    chosen = _texts(given, "video_id") if "video_id" in given.column_names else repeat("", given.num_rows)
    ids = (own or _default_id(uri, folder) for own, uri in zip(chosen, _texts(given, "uri"), strict=True))
    return pa.chunked_array((pa.array(part, pa.string()) for part in _parts(ids)), pa.string())


def _manifest_folder(source: str) -> str:
    if storage.is_remote(source):
        address, mark, query = source.partition("?")
        return posixpath.dirname(address) + mark + query
    return os.path.dirname(os.path.abspath(source))


def _manifest_columns(source: str, suffix: str) -> pa.Table:
    content = storage.read_bytes(source)
    try:
        if suffix == "parquet":
            return pq.read_table(io.BytesIO(content))
        if suffix == "jsonl":
            return _json_lines(content.decode("utf-8-sig"))
        return _csv(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ManifestError(f"Expected a manifest in UTF-8. Received: {storage.one_line(error)}") from error
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise ManifestError(f"The manifest cannot be read as {suffix}: {storage.one_line(error)}") from error


def _csv(text: str) -> pa.Table:
    csv.field_size_limit(max(_MOST_CELL_CHARACTERS, csv.field_size_limit()))
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = (row for row in lines if row and not (len(row) == 1 and row[0].isspace()))
    try:
        header = next(rows, [])
        schema = pa.schema(
            [(name or f"Unnamed: {place}", pa.large_string()) for place, name in enumerate(header)]
        )
        batches, too_long, num_rows = [], [], 0
        for part in _parts(rows):
            too_long += [num_rows + row for row, cells in enumerate(part) if len(cells) > len(header)]
            num_rows += len(part)
            if not too_long:
                whole = (cells + [None] * (len(header) - len(cells)) for cells in part)
                columns = [pa.array(column, pa.large_string()) for column in zip(*whole, strict=True)]
                batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    except csv.Error as error:
        raise ManifestError(f"Line {lines.line_num} of the manifest cannot be read: {error}") from error
    refuse_rows(too_long, "has more fields than the header")
    return pa.Table.from_batches(batches, schema)


def _json_lines(text: str) -> pa.Table:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ManifestError(
                f"Line {number} of the manifest cannot be read: {storage.one_line(error)}"
            ) from error
        if not isinstance(row, dict):
            raise ManifestError(
                f"Expected a JSON object on every line of the manifest. Received: line {number}"
            )
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _json_column(name, [row.get(name) for row in rows]) for name in names})


def _json_column(name: str, values: Sequence[object]) -> pa.Array:
    try:
        return pa.array(values)
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise ManifestError(
            f"The manifest's column {storage.as_text(name)!r} cannot be read: {storage.one_line(error)}"
        ) from error


def _refuse_unstorable(own: dict[str, pa.ChunkedArray]) -> None:
    for name, values in own.items():
        try:
            pq.write_table(pa.table({name: values.slice(0, 0)}), io.BytesIO())
        except pa.ArrowException as error:
            raise ManifestError(
                f"The manifest's column {name!r} cannot be kept: {storage.one_line(error)}"
            ) from error


def _texts(given: pa.Table, name: str) -> Iterator[str]:
    """Yield the values of a column as text, empty for null: of a long one there is never a list."""
    try:
        texts = given.column(name).cast(pa.string())
    except pa.ArrowException as error:
        raise ManifestError(f"Expected text in the manifest's column {name!r}") from error
    return (value or "" for value in _values(texts))


def _values(column: pa.ChunkedArray) -> Iterator[Any]:
    for start in range(0, len(column), _ROWS_AT_ONCE):
        yield from column.slice(start, _ROWS_AT_ONCE).to_pylist()


def _parts(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    rest = iter(items)
    while part := list(islice(rest, _ROWS_AT_ONCE)):
        yield part


def _default_id(uri: str, folder: str) -> str:
    if storage.is_remote(uri):
        return storage.relative_to(uri, folder).partition("?")[0]
    path = storage.local_path(uri)
    if not os.path.isabs(path):
        return storage.as_text(posixpath.normpath(path))
    return storage.as_text(storage.relative_to(path, folder))


def _stands_alone(uri: str) -> bool:
    return storage.is_remote(uri) or os.path.isabs(storage.local_path(uri))


def _address(uri: str, folder: str) -> str:
    """Return where `uri` of a manifest in `folder` is: a remote address, or an absolute local path."""
    if storage.is_remote(uri):
        return uri
    path = storage.local_path(uri)
    if storage.is_remote(folder) and not _stands_alone(uri):
        return storage.beside(folder, path)
    return os.path.normpath(os.path.join(folder, path))


def _manifest_file(address: str, video_id: str) -> _File:
    if storage.is_remote(address):
        return _File(address, video_id, None, None)
    return _local_file(address, video_id)


def refuse_reserved(names: Sequence[str], *, of: str = "The manifest") -> None:
    """Raise ManifestError if a column is there twice, or has a name that the results use."""
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ManifestError(f"{of} has a column twice: {', '.join(repeated)}")
    reserved = sorted(_RESERVED.intersection(names))
    if reserved:
        raise ManifestError(
            f"{of}'s columns {', '.join(reserved)} have names that the results use; rename them"
        )


def with_text_labels(given: pa.Table, *, of: str = "the manifest") -> pa.Table:
    """Return `given` with `label` and `group` as text and their empty values as null.

    Raises:
        ManifestError: A label is neither `real` nor `fake`.
    """
    for name in ("label", "group"):
        if name in given.column_names:
            texts = list(_texts(given, name))
            if name == "label":
                wrong = [row for row, label in enumerate(texts) if label and label not in LABELS]
                refuse_rows(wrong, f"has a label other than {' or '.join(LABELS)}", of=of)
            values = pa.array([text or None for text in texts], type=pa.string())
            given = given.set_column(given.column_names.index(name), name, values)
    return given


def _refuse_duplicates(video_ids: pa.ChunkedArray) -> None:
    if pc.count_distinct(video_ids).as_py() == len(video_ids):
        return
    repeated = {video_id for video_id, count in Counter(_values(video_ids)).items() if count > 1}
    refuse_rows(
        [row for row, video_id in enumerate(_values(video_ids)) if video_id in repeated], "repeats a video_id"
    )


def refuse_rows(rows: Sequence[int], fault: str, *, of: str = "the manifest") -> None:
    """Raise ManifestError naming `rows` as a person counts them, the first being row 1."""
    if rows:
        named = ", ".join(str(row + 1) for row in rows[:_NAMED_ROWS])
        more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
        raise ManifestError(f"A row of {of} {fault}: row {named}{more}")


def _manifest_table(files: Iterable[_File], own: dict[str, pa.ChunkedArray]) -> pa.Table:
    core = pa.concat_tables(_core_tables(files)).combine_chunks()
    fields = [pa.field(name, pa.string() if pa.types.is_null(v.type) else v.type) for name, v in own.items()]
    values = [v.cast(pa.string()) if pa.types.is_null(v.type) else v for v in own.values()]
    schema = pa.schema([*MANIFEST, *fields])
    return check(pa.Table.from_arrays([*core.columns, *values], schema=schema), schema)


def _core_tables(files: Iterable[_File]) -> Iterator[pa.Table]:
    """Yield MANIFEST of `files`, some ten thousand at a time."""
    start = 0
    for part in _parts(files):
        columns = {
            "manifest_row": range(start, start + len(part)),
            "video_id": [file.video_id for file in part],
            "uri": [file.uri for file in part],
            "plan_key": [_plan_key(file) for file in part],
            "size_bytes": [file.size_bytes for file in part],
            "modified_ns": [file.modified_ns for file in part],
        }
        yield pa.table(columns, schema=MANIFEST)
        start += len(part)


def _plan_key(file: _File) -> str:
    text = json.dumps([file.video_id, file.uri, file.size_bytes, file.modified_ns])
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
