"""Runs of face pictures → face crops, for scoring without decoding a video."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dfd_core.config import ExtractConfig
from dfd_core.errors import RequestError, VideoError, VideoStorageError, VideoTooLargeError
from dfd_core.faces.detect import Face
from dfd_core.faces.images import FaceColumns, decode, resized
from dfd_core.faces.kept import picture_of
from dfd_core.faces.quality import quality_of_picture
from dfd_core.schemas import FACE_IMAGES, SEGMENT_PICTURES
from dfd_core.step_clock import StepClock
from dfd_core.storage.address import Address
from dfd_core.storage.reasons import reason_of
from dfd_core.video.opening import RETRY_DELAYS_S
from dfd_core.video.shots import UNKNOWN_SHOTS

Row = dict[str, Any]
_READ_ROWS = 32
_READ_BYTES = 1 << 20
_BOX = ("left", "top", "right", "bottom")


def pictures_of(
    runs: Sequence[Mapping[str, Any]], *, delays_s: Sequence[float] = RETRY_DELAYS_S
) -> Iterator[tuple[Mapping[str, Any], Row]]:
    """Yield each run (FACE_RUN) with its row of SEGMENT_PICTURES, which holds the error if the run cannot be read.

    Each table is read once, from front to back, a few rows at a time. If its storage fails, reading resumes at the run
    that failed. Faces of a table made elsewhere have null where the table says nothing: the index of the frame is then
    the picture's number, and the box is the whole picture.

    Args:
        runs: In any order.
        delays_s: Seconds to wait before each further attempt at a run.
    """
    for table, group in itertools.groupby(sorted(runs, key=_place), key=lambda run: run["table"]):
        waiting = list(group)
        delays = iter(delays_s)
        while waiting:
            try:
                for rows in _rows_of(table, tuple(waiting)):
                    found = waiting[0], _picture_row(rows, waiting[0])
                    waiting.pop(0)
                    delays = iter(delays_s)
                    yield found
            except (OSError, RequestError, pa.ArrowException) as error:
                delay_s = next(delays, None) if _may_pass(error) else None
                if delay_s is None:
                    yield from ((run, _unreadable(run, error)) for run in waiting)
                    break
                time.sleep(delay_s)


def _may_pass(error: Exception) -> bool:
    """Return whether another attempt may succeed."""
    lasting = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, pa.ArrowException)
    return not isinstance(error, lasting) and "AWS Error ACCESS_DENIED" not in str(error)


def _unreadable(run: Mapping[str, Any], error: Exception) -> Row:
    return {
        "num_frames_wanted": run["num_frames"],
        "num_frames": 0,
        "error_kind": VideoStorageError.kind,
        "error_message": f"The storage failed: {reason_of(error)}",
        "faces": [],
    }


def _place(run: Mapping[str, Any]) -> tuple[str, int]:
    return run["table"], run["first_row"]


def _rows_of(table: str, runs: Sequence[Mapping[str, Any]]) -> Iterator[pa.Table]:
    """Yield the rows of each run of one table; the runs are sorted and do not overlap."""
    address = Address.parse(table)
    with address.fs.open_input_file(address.path) as opened:
        file = pq.ParquetFile(opened, buffer_size=_READ_BYTES, pre_buffer=False)
        batch_rows = 1 if "faces" in file.schema_arrow.names else _READ_ROWS
        ends = list(
            itertools.accumulate(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups))
        )
        at = iter(runs)
        run = next(at)
        parts: list[pa.RecordBatch] = []
        for number, end in enumerate(ends):
            here = ends[number - 1] if number else 0
            if run["first_row"] + run["num_rows"] <= here or run["first_row"] >= end:
                continue
            for batch in file.iter_batches(batch_rows, row_groups=[number], use_threads=False):
                while True:
                    start, stop = run["first_row"] - here, run["first_row"] + run["num_rows"] - here
                    if start < batch.num_rows:
                        parts.append(batch.slice(max(0, start), min(stop, batch.num_rows) - max(0, start)))
                    if stop > batch.num_rows:
                        break
                    yield pa.Table.from_batches(parts)
                    parts = []
                    following = next(at, None)
                    if following is None:
                        return
                    run = following
                here += batch.num_rows
                if run["first_row"] >= end:
                    break
        raise pa.ArrowInvalid(f"The table has {ends[-1] if ends else 0} rows")


def _picture_row(rows: pa.Table, run: Mapping[str, Any]) -> Row:
    if "faces" in rows.column_names:
        found: Row = rows.to_pylist()[0]
        return found
    image_name = FaceColumns.of(rows.schema).image
    given = {
        name: rows.column(name).cast(kind).to_pylist()
        for name, kind in _FACE_TYPES.items()
        if name in FACE_IMAGES.names and name in rows.column_names
    }
    images = rows.column(image_name).to_pylist()
    seen: Counter[int] = Counter()
    faces = []
    for number, image in enumerate(images):
        face: Row = {name: given[name][number] if name in given else None for name in _FACE_TYPES}
        frame_index = run["first_position"] + number if face["frame_index"] is None else face["frame_index"]
        defaults = {
            "frame_index": frame_index,
            "time_s": 0.0,
            "face_index": seen[frame_index],
            "detector_confidence": 0.0,
        }
        seen[frame_index] += 1
        face |= {name: default for name, default in defaults.items() if face[name] is None}
        faces.append(face | {"image": image["bytes"] if isinstance(image, Mapping) else image})
    return {
        "num_frames_wanted": run["num_frames"],
        "num_frames": run["num_frames"],
        "error_kind": None,
        "error_message": None,
        "faces": faces,
    }


_FACE_TYPES = {
    part.name: part.type for part in SEGMENT_PICTURES.field("faces").type.value_type if part.name != "image"
}


def crop_pictures(run: Mapping[str, Any], pictures: Mapping[str, Any], config: ExtractConfig) -> Row:
    """Return one row of `schemas.face_crops`: the pictures of a run, decoded and resized.

    A picture that cannot be decoded is left out, and the row has the error.

    Args:
        run: FACE_RUN.
        pictures: The row of `pictures_of` for it.
        config: The side of a crop and the limits.
    """
    clock = StepClock("decode")
    faces, faults = [], []
    for face in pictures["faces"]:
        try:
            faces.append(_cropped(face, config, clock))
        except VideoError as fault:
            faults.append(fault)
    kind, message = pictures["error_kind"], pictures["error_message"]
    if faults and kind is None:
        kind = faults[0].kind
        message = f"{faults[0]} ({len(faults)} of {len(pictures['faces'])} pictures)"
    return {
        "segment_id": run["segment_id"],
        "plan_key": run["plan_key"],
        "num_frames_wanted": pictures["num_frames_wanted"],
        "num_frames": max(0, pictures["num_frames"] - len(faults)),
        "error_kind": kind,
        "error_message": message,
        **clock.as_row(),
        **{name: pictures.get(name) for name in UNKNOWN_SHOTS},
        "faces": faces,
    }


def _cropped(face: Mapping[str, Any], config: ExtractConfig, clock: StepClock) -> Row:
    rgb = decode(face["image"] or b"")
    height, width = rgb.shape[:2]
    limit = config.limits.max_pixels
    if limit is not None and height * width > limit:
        raise VideoTooLargeError(f"The picture has {height * width} pixels; the limit is {limit}")
    with clock.during("crop"):
        crop = resized(rgb, config.crop_px).tobytes()
    box = dict(zip(_BOX, (0, 0, width, height), strict=True))
    if all(face[name] is not None for name in _BOX):
        box = {name: face[name] for name in _BOX}
    quality = quality_of_picture(rgb).as_row() if face.get("sharpness") is None else {}
    picture = {"picture": picture_of(rgb, Face(0, 0, width, height, 0.0))} if config.pictures else {}
    return {**{name: face.get(name) for name in _FACE_TYPES}, **quality, **box, "crop": crop, **picture}
