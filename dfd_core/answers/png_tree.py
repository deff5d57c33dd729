"""A folder of face pictures as a tree of PNG files: `real/`, `fake/` and `unlabelled/`."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow.parquet as pq

from dfd_core.errors import OutputError
from dfd_core.faces.images import decode, encode
from dfd_core.run.output_folder import OutputFolder
from dfd_core.sources.manifest import LABELS
from dfd_core.sources.suffixes import VIDEO_SUFFIXES
from dfd_core.storage.swap import replacing_folder
from dfd_core.storage.tables import parquet_files, read_table
from dfd_core.storage.text import as_text, one_line
from dfd_core.storage.uri import is_remote, local_path

_PNG = b"\x89PNG\r\n\x1a\n"
_MARK = ".dfd-faces"
"""Holds the names of the files of a tree; empty in a tree of before 0.2."""
_UNLABELLED = "unlabelled"
_LABELS = (*LABELS, _UNLABELLED)
_LONGEST_NAME_BYTES = 150
_OF_OLD = re.compile(rf"({'|'.join(_LABELS)})/.+_[0-9]+(-[0-9]+)?\.png", re.DOTALL)


def refuse_tree(folder: str) -> None:
    """Check that a tree can be written to the local `folder`: it is absent, empty, or an earlier tree and nothing else.

    Raises:
        OutputError: It is not.
    """
    if is_remote(folder):
        raise OutputError(f"Expected a local folder for the PNG files. Received: {folder}")
    folder = os.path.abspath(local_path(folder))
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {one_line(error.strerror or error)}") from error
    if names and _MARK not in names:
        raise OutputError(f"{folder} is not empty and holds no faces of an earlier run")
    if foreign := next(_foreign(folder), None):
        raise OutputError(f"{folder} holds {as_text(foreign)!r}, which no earlier run has written")


def _foreign(folder: str) -> Iterator[str]:
    """Yield what is in an earlier tree and was not written with it."""
    mark = os.path.join(folder, _MARK)
    listed: set[str] = set()
    if os.path.exists(mark):
        with open(mark, encoding="utf-8") as file:
            listed = {line.rstrip("\n") for line in file}
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(here, name), folder)
            is_ours = path in listed if listed else bool(_OF_OLD.fullmatch(path))
            if path != _MARK and not is_ours:
                yield path


def write_png_tree(out: OutputFolder, folder: str) -> int:
    """Write the pictures of `faces/` as `real/ID_FRAME.png`, `fake/…` and `unlabelled/…`; return their number.

    A frame's further faces are `ID_FRAME-1.png` and so on. The tree replaces an earlier one, and only when it is whole.

    Raises:
        OutputError: It cannot be written.
    """
    refuse_tree(folder)
    folder = os.path.abspath(local_path(folder))
    ids = read_table(out.manifest).column("video_id").to_pylist()
    name_of = dict(zip(ids, file_names(ids), strict=True))
    number = 0
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with replacing_folder(folder) as new, open(os.path.join(new, _MARK), "w", encoding="utf-8") as mark:
            for label in _LABELS:
                os.mkdir(os.path.join(new, label))
            for row in _face_rows(out):
                mark.write(_write_png(new, row, name_of) + "\n")
                number += 1
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


def _write_png(folder: str, row: dict[str, object], name_of: dict[str, str]) -> str:
    image = bytes(row["image"])  # type: ignore[call-overload]
    further = f"-{row['face_index']}" if row["face_index"] else ""
    name = f"{name_of[str(row['video_id'])]}_{row['frame_index']}{further}.png"
    path = os.path.join(str(row.get("label") or _UNLABELLED), name)
    with open(os.path.join(folder, path), "xb") as file:
        file.write(image if image.startswith(_PNG) else encode(decode(image), "png"))
    return path


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
