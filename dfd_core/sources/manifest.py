"""The MANIFEST table, and the rules that every list of videos keeps."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfd_core.errors import ManifestError
from dfd_core.schemas import MANIFEST, VIDEOS, check
from dfd_core.sources.columns import parts_of, texts_of, values_of
from dfd_core.storage.text import one_line

LABELS = ("real", "fake")
_RESERVED = frozenset([*MANIFEST.names, *VIDEOS.names]) - {"video_id", "uri"}
_NAMED_ROWS = 5


@dataclass(frozen=True, slots=True)
class File:
    """One video of a list.

    Attributes:
        uri: Its address.
        video_id: Its name, unique in the list.
        size_bytes: None where it is not known.
        modified_ns: Time of its last change, nanoseconds since 1970; None where it is not known.
    """

    uri: str
    video_id: str
    size_bytes: int | None
    modified_ns: int | None


def manifest_table(files: Iterable[File], own: dict[str, pa.ChunkedArray]) -> pa.Table:
    """Return MANIFEST of `files`, then the user's `own` columns; a column of nulls becomes text."""
    core = pa.concat_tables(_core_tables(files)).combine_chunks()
    fields = [pa.field(name, pa.string() if pa.types.is_null(v.type) else v.type) for name, v in own.items()]
    values = [v.cast(pa.string()) if pa.types.is_null(v.type) else v for v in own.values()]
    schema = pa.schema([*MANIFEST, *fields])
    return check(pa.Table.from_arrays([*core.columns, *values], schema=schema), schema)


def _core_tables(files: Iterable[File]) -> Iterator[pa.Table]:
    """Yield MANIFEST of `files` in tables of some ten thousand rows."""
    start = 0
    for part in parts_of(files):
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


def _plan_key(file: File) -> str:
    text = json.dumps([file.video_id, file.uri, file.size_bytes, file.modified_ns])
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def refuse_reserved(names: Sequence[str], *, of: str = "The manifest") -> None:
    """Raise ManifestError if two columns share a name, or one has a name that the results use."""
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
            texts = list(texts_of(given, name))
            if name == "label":
                wrong = [row for row, label in enumerate(texts) if label and label not in LABELS]
                refuse_rows(wrong, f"has a label other than {' or '.join(LABELS)}", of=of)
            values = pa.array([text or None for text in texts], type=pa.string())
            given = given.set_column(given.column_names.index(name), name, values)
    return given


def refuse_duplicates(video_ids: pa.ChunkedArray) -> None:
    """Raise ManifestError if two rows have one `video_id`."""
    if pc.count_distinct(video_ids).as_py() == len(video_ids):
        return
    repeated = {video_id for video_id, count in Counter(values_of(video_ids)).items() if count > 1}
    refuse_rows(
        [row for row, video_id in enumerate(values_of(video_ids)) if video_id in repeated],
        "repeats a video_id",
    )


def refuse_rows(rows: Sequence[int], fault: str, *, of: str = "the manifest") -> None:
    """Raise ManifestError if there are `rows`, and name the first of them. The message counts from 1."""
    if rows:
        named = ", ".join(str(row + 1) for row in rows[:_NAMED_ROWS])
        more = f" and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
        raise ManifestError(f"A row of {of} {fault}: row {named}{more}")


def refuse_unstorable(own: dict[str, pa.ChunkedArray]) -> None:
    """Raise ManifestError if Parquet cannot hold one of the `own` columns."""
    for name, values in own.items():
        try:
            pq.write_table(pa.table({name: values.slice(0, 0)}), io.BytesIO())
        except pa.ArrowException as error:
            raise ManifestError(
                f"The manifest's column {name!r} cannot be kept: {one_line(error)}"
            ) from error
