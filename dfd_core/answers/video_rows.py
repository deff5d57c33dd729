"""The tables of a finished run, read a video at a time: its row and its faces, tracks and spans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from dfd_core.errors import OutputError
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.tables import parquet_files

TABLES = ("videos", "faces", "tracks", "spans")
_BATCH_ROWS = 10_000

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class VideoRows:
    """What a run says of one video.

    Attributes:
        video: Its row of `videos/`.
        faces: Its rows of `faces/`, by time.
        tracks: Its rows of `tracks/`.
        spans: Its rows of `spans/`.
    """

    video: Row
    faces: list[Row] = field(default_factory=list)
    tracks: list[Row] = field(default_factory=list)
    spans: list[Row] = field(default_factory=list)

    def frames_of(self, span: Row) -> tuple[int, int]:
        """Return the first and the last frame of a span, counted from 1 as other programs do."""
        frames = [
            face["frame_index"] + 1
            for face in self.faces
            if face["track_id"] == span["track_id"] and span["start_s"] <= face["time_s"] <= span["end_s"]
        ]
        return min(frames), max(frames)


def refuse_incomplete(out: OutputFolder) -> None:
    """Check that the folder has every table.

    Raises:
        OutputError: It has not.
    """
    out.refuse_missing()
    missing = [name for name in TABLES if not parquet_files(getattr(out, name))]
    if missing == ["tracks", "spans"]:
        raise OutputError(f"{out.root} has no tracks/ and no spans/: `dfd aggregate` derives them")
    if missing:
        raise OutputError(f"{out.root} is not the output of a finished run: {', '.join(missing)} is missing")


def table_batches(out: OutputFolder, name: str) -> Iterator[pa.Table]:
    """Yield a table in pieces, in order; at least one, which may be empty.

    Args:
        out: A folder that has every table.
        name: One of `TABLES`.
    """
    folder = getattr(out, name)
    table = ds.dataset(parquet_files(folder), filesystem=folder.fs, format="parquet")
    yield table.schema.empty_table()
    for batch in table.to_batches(batch_size=_BATCH_ROWS):
        if batch.num_rows:
            yield pa.Table.from_batches([batch])


def read_video_rows(out: OutputFolder) -> Iterator[VideoRows]:
    """Yield what the run says of each video; no more than one video's faces are held beyond a batch.

    The tables must list the videos in one order, as a run writes them.
    """
    others = {name: _by_video(out, name) for name in TABLES[1:]}
    waiting = {name: next(groups, None) for name, groups in others.items()}
    for video in _rows(out, "videos"):
        found = {}
        for name, groups in others.items():
            group = waiting[name]
            if group is not None and group[0] == video["video_id"]:
                found[name] = group[1]
                waiting[name] = next(groups, None)
        yield VideoRows(video, **found)


def _by_video(out: OutputFolder, name: str) -> Iterator[tuple[str, list[Row]]]:
    for video_id, rows in groupby(_rows(out, name), key=lambda row: row["video_id"]):
        yield video_id, list(rows)


def _rows(out: OutputFolder, name: str) -> Iterator[Row]:
    for table in table_batches(out, name):
        yield from table.to_pylist()
