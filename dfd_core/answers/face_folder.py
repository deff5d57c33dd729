"""STAGE 3 where no model scores: `faces/` and `videos/` of a folder of face pictures, and the tree of PNG files.

The pictures pass through one by one; only the sums over the segments run in DuckDB.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dfd_core.answers.aggregate import connect, counts, finish_videos, own_columns, videos_query
from dfd_core.errors import ManifestError, OutputError
from dfd_core.faces.images import decode, encode
from dfd_core.run.counts import Counts
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import FACE_IMAGES, FACE_VIDEOS, MANIFEST, SEGMENT_PICTURES, check
from dfd_core.sources.manifest import LABELS
from dfd_core.sources.suffixes import VIDEO_SUFFIXES
from dfd_core.storage.tables import parquet_files, read_table, replace_table
from dfd_core.storage.text import one_line
from dfd_core.storage.uri import is_remote, local_path

STATUSES = ("extracted", "no_face", "partial", "failed")
_PNG = b"\x89PNG\r\n\x1a\n"
_MARK = ".dfd-faces"
_UNLABELLED = "unlabelled"
_LONGEST_NAME_BYTES = 150
_BATCH_ROWS = 50_000
_GROUP_BYTES = 32 << 20
_FILE_ROWS = 20_000
_NAMED = ("segment_id", "error_kind", "extracted_at")


def refuse_own_columns(manifest: pa.Table) -> None:
    """Check that no column of the manifest has the name of one of `faces/`.

    Raises:
        ManifestError: One has.
    """
    taken = sorted(set(FACE_IMAGES.names) & {own.name for own in own_columns(manifest.schema)})
    if taken:
        raise ManifestError(
            f"The manifest's columns {', '.join(taken)} have names that faces/ uses; rename them"
        )


def finish_faces(out: OutputFolder) -> Counts:
    """Write `faces/` and `videos/` from the committed segments and return what they hold.

    Raises:
        OutputError: The log is damaged or incomplete, or the tables cannot be written.
    """
    without_pictures = pa.schema([field for field in SEGMENT_PICTURES if field.name != "faces"])
    with connect(out, without_pictures) as db:
        manifest = read_table(out.manifest)
        own = own_columns(manifest.schema)
        faces = _faces(out, db, manifest)
        replace_table(out.faces, faces, pa.schema([*FACE_IMAGES, *own]), rows_per_file=_FILE_ROWS)
        replace_table(
            out.videos,
            _videos(db, manifest.select([field.name for field in own])),
            pa.schema([*FACE_VIDEOS, *own]),
        )
        return counts(db, out, STATUSES)


def _videos(db: duckdb.DuckDBPyConnection, own: pa.Table) -> Iterator[pa.Table]:
    joined = db.sql(f"{videos_query('extracted', num_faces='num_faces')} ORDER BY manifest_row")
    for batch in joined.to_arrow_reader(_BATCH_ROWS):
        yield finish_videos(pa.Table.from_batches([batch]), own, FACE_VIDEOS)


def _faces(out: OutputFolder, db: duckdb.DuckDBPyConnection, manifest: pa.Table) -> Iterator[pa.Table]:
    """Yield the faces of the present manifest's segments in the order of the log, a row group at a time."""
    chosen = db.sql(
        f"SELECT {', '.join(_NAMED)} FROM results SEMI JOIN listed USING (segment_id)"
    ).to_arrow_table()
    wanted = set(zip(*(column.to_pylist() for column in chosen.columns), strict=True))
    row_of = {key: row for row, key in enumerate(manifest.column("plan_key").to_pylist())}
    group: list[pa.Table] = []
    for segment in _segments(out, wanted):
        group.append(_faces_of(segment, manifest, row_of[segment.column("plan_key")[0].as_py()]))
        if sum(part.nbytes for part in group) >= _GROUP_BYTES:
            yield pa.concat_tables(group).combine_chunks()
            group = []
    if group:
        yield pa.concat_tables(group).combine_chunks()


def _segments(out: OutputFolder, wanted: set[tuple[object, ...]]) -> Iterator[pa.Table]:
    """Yield the committed segments that are `wanted` by `_NAMED`, one row each, each once."""
    log = out.segment_log
    for path in log.data_files():
        with log.data.fs.open_input_file(path) as opened:
            for batch in pq.ParquetFile(opened).iter_batches(1, columns=[*_NAMED, "plan_key", "faces"]):
                named = tuple(batch.column(name)[0].as_py() for name in _NAMED)
                if named in wanted:
                    wanted.remove(named)
                    yield pa.Table.from_batches([batch])


def _faces_of(segment: pa.Table, manifest: pa.Table, row: int) -> pa.Table:
    faces = pc.list_flatten(segment.column("faces")).combine_chunks()
    video_id = manifest.column("video_id")[row]
    columns = [pa.array([video_id.as_py()] * len(faces), pa.string())]
    columns += [faces.field(name) for name in FACE_IMAGES.names[1:]]
    table = pa.Table.from_arrays(columns, schema=FACE_IMAGES)
    own = manifest.drop_columns(MANIFEST.names)
    rows = pa.array([row] * len(faces), pa.int64())
    for field in own.schema:
        table = table.append_column(field, own.column(field.name).take(rows))
    return check(table, pa.schema([*FACE_IMAGES, *own.schema]))


# --- the tree of PNG files ----------------------------------------------------------------------------------------


def refuse_tree(folder: str) -> None:
    """Check that a tree can be written to the local `folder`: it is absent, empty, or an earlier tree.

    Raises:
        OutputError: It is not.
    """
    if is_remote(folder):
        raise OutputError(f"Expected a local folder for the PNG files. Received: {folder}")
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {one_line(error.strerror or error)}") from error
    if names and _MARK not in names:
        raise OutputError(f"{folder} is not empty and holds no faces of an earlier run")


def write_png_tree(out: OutputFolder, folder: str) -> int:
    """Write the pictures of `faces/` as `real/ID_FRAME.png`, `fake/…` and `unlabelled/…`; return their number.

    A frame's further faces are `ID_FRAME-1.png` and so on. The tree replaces an earlier one, and only when it is whole.

    Raises:
        OutputError: It cannot be written.
    """
    refuse_tree(folder)
    folder = os.path.abspath(local_path(folder))
    beside = folder + ".new"
    manifest = read_table(out.manifest)
    ids = manifest.column("video_id").to_pylist()
    name_of = dict(zip(ids, file_names(ids), strict=True))
    try:
        shutil.rmtree(beside, ignore_errors=True)
        for label in (*LABELS, _UNLABELLED):
            os.makedirs(os.path.join(beside, label))
        with open(os.path.join(beside, _MARK), "w"):
            pass
        number = sum(_write_png(beside, row, name_of) for row in _face_rows(out))
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(beside, folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {one_line(error.strerror or error)}") from error
    return number


def _face_rows(out: OutputFolder) -> Iterator[dict[str, object]]:
    names = ["video_id", "frame_index", "face_index", "image", "label"]
    for name in parquet_files(out.faces):
        with out.faces.fs.open_input_file(name) as opened:
            file = pq.ParquetFile(opened)
            columns = [name for name in names if name in file.schema_arrow.names]
            for batch in file.iter_batches(64, columns=columns):
                yield from batch.to_pylist()


def _write_png(folder: str, row: dict[str, object], name_of: dict[str, str]) -> int:
    image = bytes(row["image"])  # type: ignore[call-overload]
    further = f"-{row['face_index']}" if row["face_index"] else ""
    name = f"{name_of[str(row['video_id'])]}_{row['frame_index']}{further}.png"
    label = str(row.get("label") or _UNLABELLED)
    with open(os.path.join(folder, label, name), "xb") as file:
        file.write(image if image.startswith(_PNG) else encode(decode(image), "png"))
    return 1


def file_names(video_ids: Sequence[str]) -> list[str]:
    """Return a part of a file name for each video, none equal to another, whatever the ids hold.

    An id loses its ending, as in the seed, and what a file's name should not hold becomes `_`; where two would then
    clash, a hash tells them apart.

    >>> file_names(["id0_id4_0002.mp4", "../b.mp4", "a.mp4", "a.mkv"])
    ['id0_id4_0002', '___b', 'a~df6e1d71c9', 'a~a70b5530d1']
    """
    plain = [_plain_name(video_id) for video_id in video_ids]
    clashes = Counter(map(_folded, plain))
    return [
        name if clashes[_folded(name)] == 1 else f"{name}~{_hash(video_id)}"
        for name, video_id in zip(plain, video_ids, strict=True)
    ]


def _stem(video_id: str) -> str:
    stem, dot, ending = video_id.rpartition(".")
    return stem if dot and ending.lower() in VIDEO_SUFFIXES else video_id


def _plain_name(video_id: str) -> str:
    name = re.sub(r"[^\w.-]|^\.+", lambda found: "_" * len(found[0]), _stem(video_id))
    return name.encode()[:_LONGEST_NAME_BYTES].decode(errors="ignore")


def _folded(name: str) -> str:
    """Return what file systems that ignore case or composition compare."""
    return unicodedata.normalize("NFKC", name).casefold()


def _hash(video_id: str) -> str:
    return hashlib.blake2b(video_id.encode(), digest_size=5).hexdigest()
