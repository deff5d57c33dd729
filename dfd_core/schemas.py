"""Every Arrow schema, and the one way from rows to a table.

Each stage takes and returns a `pyarrow.Table` of exactly one of these schemas. A field marked `nullable=False` holds a value
in every row. Arrow and Ray do not check this; `to_table` and `check` do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from dfd_core.step_clock import STEPS


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


REQUEST = pa.schema(
    [
        _required("plan_key", pa.string()),
        _required("uri", pa.string()),
    ]
)
"""manifest → plan: one row per video to be planned. `plan_key` names one version of one video's file."""

MANIFEST = pa.schema(
    [
        _required("manifest_row", pa.int64()),
        _required("video_id", pa.string()),
        _required("uri", pa.string()),
        _required("plan_key", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("modified_ns", pa.int64()),
    ]
)
"""The manifest as the job keeps it; the user's other columns follow these."""

ATTEMPTS = pa.schema(
    [
        _required("video_id", pa.string()),
        _required("attempt", pa.int32()),
        pa.field("derivation", pa.int32()),
    ]
)
"""One row per video that was retried: how many retries, and which derivation of `videos/` caused the last one."""

INPUT_HASHES = pa.schema(
    [
        _required("plan_key", pa.string()),
        _required("sha256", pa.string()),
        pa.field("etag", pa.string()),
    ]
)
"""One row per input that was read whole; `etag` is what an object store called this content."""

SEGMENT_RANGE = pa.struct(
    [
        _required("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("frame_indices", pa.list_(pa.int64())),
        pa.field("frame_pts", pa.list_(pa.int64())),
        pa.field("frame_times_s", pa.list_(pa.float64())),
    ]
)
"""`[start_s, end_s)` of one video; a null `end_s` means the end of the video. The sampled frames are listed only if the video has
several segments. A single segment finds its frames itself."""

VIDEO_PLAN = pa.schema(
    [
        _required("plan_key", pa.string()),
        pa.field("fps", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("error_kind", pa.string()),
        pa.field("error_message", pa.string()),
        _required("probe_s", pa.float64()),
        _required("probe_cpu_s", pa.float64()),
        _required("segments", pa.list_(SEGMENT_RANGE)),
    ]
)
"""plan: one row per video. A video that cannot be opened has its error here and no segments. `probe_s` are wall-clock seconds,
`probe_cpu_s` CPU seconds of the process that opened it; 0 if that process was lost."""

SEGMENT = pa.schema(
    [
        _required("segment_id", pa.string()),
        _required("plan_key", pa.string()),
        _required("uri", pa.string()),
        pa.field("fps", pa.float64()),
        pa.field("duration_s", pa.float64()),
        *SEGMENT_RANGE,
    ]
)
"""plan → extract: one row per segment."""

FACE_RUN = pa.schema(
    [
        *SEGMENT,
        _required("table", pa.string()),
        _required("first_row", pa.int64()),
        _required("num_rows", pa.int32()),
        _required("first_position", pa.int64()),
        _required("num_frames", pa.int32()),
    ]
)
"""SEGMENT of a source of face pictures, and where its pictures are: `num_rows` rows of the Parquet file `table`, from `first_row` on.
They are one row of SEGMENT_PICTURES, or one picture each; the first picture is number `first_position` of the video."""

SECONDS = pa.struct([pa.field(f"{step}_s", pa.float64(), nullable=step == "convert") for step in STEPS])
"""Seconds of one segment by step. `convert_s` is null in older logs, where `decode_s` includes it."""

_FACE = [
    _required("frame_index", pa.int64()),
    _required("time_s", pa.float64()),
    _required("face_index", pa.int32()),
    _required("left", pa.int32()),
    _required("top", pa.int32()),
    _required("right", pa.int32()),
    _required("bottom", pa.int32()),
    _required("detector_confidence", pa.float32()),
    pa.field("side_px", pa.float32()),
    pa.field("sharpness", pa.float32()),
    pa.field("brightness", pa.float32()),
    pa.field("blockiness", pa.float32()),
]
"""`side_px` and the columns after it are `faces.quality.Quality`; they are null in older logs."""

_LOOK = [
    pa.field("shot", pa.int32()),
    pa.field("appearance", pa.binary(64)),
]
"""`shot` counts the segment's shots from 0. `appearance` is what `faces.appearance` makes of the face; both are null in older logs and
in tables of pictures made elsewhere."""

_SEGMENT_OUTCOME = [
    _required("segment_id", pa.string()),
    _required("plan_key", pa.string()),
    _required("num_frames_wanted", pa.int32()),
    _required("num_frames", pa.int32()),
    pa.field("error_kind", pa.string()),
    pa.field("error_message", pa.string()),
    _required("extract_seconds", SECONDS),
    _required("extract_cpu_seconds", SECONDS),
    _required("extracted_at", pa.float64()),
    pa.field("num_shots", pa.int32()),
    pa.field("frame_hashes", pa.list_(pa.uint64())),
]
"""`extract_seconds` are wall-clock seconds, `extract_cpu_seconds` CPU seconds of the process that did the work; 0 if that process was
lost. `extracted_at` is the end of the work, in seconds since 1970 by the clock of its node. `frame_hashes` holds the perceptual hash of
each decoded frame (`video.shots`); it and `num_shots` are null in older logs and in tables of pictures made elsewhere."""


PICTURE = [
    _required("width", pa.int32()),
    _required("height", pa.int32()),
    _required("left", pa.int32()),
    _required("top", pa.int32()),
    _required("right", pa.int32()),
    _required("bottom", pa.int32()),
    _required("jpeg", pa.binary()),
]
"""A face with its surroundings, as `faces.kept` makes it: sides in pixels, the face's box inside it, and the JPEG file."""


def face_crops(crop_px: int, *, pictures: bool = False) -> pa.Schema:
    """Return the schema of extract → score: one row per segment, its faces a list inside the row.

    A crop is `crop_px * crop_px * 3` bytes: (height, width, channel) uint8, RGB.

    Args:
        crop_px: Side of a crop, pixels.
        pictures: Whether each face has a `picture` too.
    """
    fields = [*_FACE, *_LOOK, _required("crop", pa.binary(crop_px * crop_px * 3))]
    if pictures:
        fields.append(_required("picture", pa.struct(PICTURE)))
    return pa.schema([*_SEGMENT_OUTCOME, _required("faces", pa.list_(pa.struct(fields)))])


SEGMENT_PICTURES = pa.schema(
    [
        *_SEGMENT_OUTCOME,
        _required("num_faces", pa.int32()),
        _required("faces", pa.list_(pa.struct([*_FACE, *_LOOK, _required("image", pa.binary())]))),
    ]
)
"""extract → commit where pictures are kept: one row per segment. A picture is PNG or JPEG bytes of the face's own size.
`num_faces` is the length of `faces`; reading it does not read the pictures."""

SEGMENT_RESULT = pa.schema(
    [
        *_SEGMENT_OUTCOME,
        _required("queue_s", pa.float64()),
        _required("infer_s", pa.float64()),
        _required("infer_cpu_s", pa.float64()),
        _required("faces", pa.list_(pa.struct([*_FACE, *_LOOK, _required("p_fake", pa.float32())]))),
        pa.field(
            "pictures",
            pa.list_(
                pa.struct(
                    [
                        _required("frame_index", pa.int64()),
                        _required("face_index", pa.int32()),
                        *PICTURE,
                        pa.field("occlusion", pa.list_(pa.float32())),
                    ]
                )
            ),
        ),
    ]
)
"""score → commit: one row per segment, without pixels but those of the few `pictures` that are kept; null where none were asked for. `queue_s` is the time from `extracted_at` until a model took the segment,
0 if the clocks of the two nodes disagree by more. `infer_s` and `infer_cpu_s` are the segment's share of the model's wall-clock and
CPU seconds for its block."""

FACES = pa.schema(
    [
        _required("video_id", pa.string()),
        *_FACE,
        pa.field("shot", pa.int32()),
        _required("p_fake", pa.float32()),
        pa.field("track_id", pa.int32()),
    ]
)
"""The user's `faces/`: one row per face."""

TRACKS = pa.schema(
    [
        _required("video_id", pa.string()),
        _required("track_id", pa.int32()),
        _required("start_s", pa.float64()),
        _required("end_s", pa.float64()),
        _required("first_frame_index", pa.int64()),
        _required("last_frame_index", pa.int64()),
        _required("num_frames", pa.int32()),
        _required("num_faces", pa.int32()),
        _required("p_fake", pa.float32()),
        pa.field("verdict", pa.string()),
        pa.field("uncertain_reason", pa.string()),
        _required("most_frame_index", pa.int64()),
        _required("most_face_index", pa.int32()),
        _required("least_frame_index", pa.int64()),
        _required("least_face_index", pa.int32()),
    ]
)
"""The user's `tracks/`: one row per person-on-screen. `most_` and `least_` name its most and its least suspicious face."""

SPANS = pa.schema(
    [
        _required("video_id", pa.string()),
        _required("track_id", pa.int32()),
        _required("span_index", pa.int32()),
        _required("start_s", pa.float64()),
        _required("end_s", pa.float64()),
        _required("num_faces", pa.int32()),
        _required("p_fake", pa.float32()),
    ]
)
"""The user's `spans/`: one row per suspicious stretch of a track."""

FACE_IMAGES = pa.schema([_required("video_id", pa.string()), *_FACE, _required("image", pa.binary())])
"""`faces/` of a folder of face crops: one row per face with its picture as PNG or JPEG bytes. The manifest's own columns
(`label`, `group`, ...) follow."""

VIDEOS = pa.schema(
    [
        _required("video_id", pa.string()),
        _required("uri", pa.string()),
        _required("status", pa.string()),
        pa.field("p_fake", pa.float32()),
        pa.field("verdict", pa.string()),
        pa.field("uncertain_reason", pa.string()),
        pa.field("face_share", pa.float32()),
        pa.field("side_px", pa.float32()),
        pa.field("sharpness", pa.float32()),
        pa.field("brightness", pa.float32()),
        pa.field("blockiness", pa.float32()),
        pa.field("bits_per_pixel", pa.float32()),
        pa.field("num_frames", pa.int32()),
        pa.field("num_faces", pa.int32()),
        pa.field("duration_s", pa.float64()),
        pa.field("fps", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("size_bytes", pa.int64()),
        pa.field("modified_at", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("error_kind", pa.string()),
        pa.field("error_message", pa.string()),
        _required("model_id", pa.string()),
    ]
)
"""The user's `videos/`: one row per manifest row; the manifest's own columns follow these."""

OF_SCORES = frozenset(VIDEOS.names[VIDEOS.names.index("p_fake") : VIDEOS.names.index("num_frames")]) | {
    "model_id"
}
"""The columns of VIDEOS that only scoring fills."""

FACE_VIDEOS = pa.schema([field for field in VIDEOS if field.name not in OF_SCORES])
"""`videos/` of a folder of face crops: VIDEOS without `OF_SCORES`."""


DUPLICATES = pa.schema(
    [
        _required("group_id", pa.int32()),
        _required("group_size", pa.int32()),
        _required("verdicts_disagree", pa.bool_()),
        _required("video_id", pa.string()),
        _required("uri", pa.string()),
        _required("status", pa.string()),
        pa.field("p_fake", pa.float32()),
        pa.field("verdict", pa.string()),
        _required("num_hashes", pa.int32()),
    ]
)
"""What `dfd duplicates` writes: one row for each video that has a copy, groups whose verdicts disagree first."""


PICTURES = pa.schema(
    [
        _required("video_id", pa.string()),
        _required("frame_index", pa.int64()),
        _required("time_s", pa.float64()),
        _required("face_index", pa.int32()),
        pa.field("track_id", pa.int32()),
        _required("kind", pa.string()),
        _required("p_fake", pa.float32()),
        *PICTURE,
        pa.field("occlusion", pa.list_(pa.float32())),
    ]
)
"""The user's `pictures/`: one row for each face that is kept to look at."""


def to_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return `rows` as a table of exactly `schema`.

    Raises:
        ValueError: A row lacks a field, has one that the schema does not know, or holds null where it may not.
    """
    names = set(schema.names)
    for position, row in enumerate(rows):
        if row.keys() != names:
            missing, unknown = sorted(names - row.keys()), sorted(row.keys() - names)
            raise ValueError(
                f"Expected the schema's fields. Received: row {position} lacks {missing}, adds {unknown}"
            )
    columns = [pa.array([row[field.name] for row in rows], type=field.type) for field in schema]
    return check(pa.Table.from_arrays(columns, schema=schema), schema)


def check(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` if it is exactly of `schema`, nulls included.

    Raises:
        ValueError: The schemas differ, or a field that must hold a value is null.
    """
    if not table.schema.equals(schema):
        raise ValueError(f"Expected schema: {schema}\nReceived: {table.schema}")
    for field in schema:
        for chunk in table.column(field.name).chunks:
            _check_nulls(chunk, field)
    return table


def _check_nulls(values: Any, field: Any) -> None:
    if not field.nullable and values.null_count:
        raise ValueError(f"Expected a value in every {field.name!r}. Received: {values.null_count} null")
    if pa.types.is_list(field.type):
        _check_nulls(values.flatten(), field.type.value_field)
    elif pa.types.is_struct(field.type):
        present = values.drop_null() if values.null_count else values
        for position, child in enumerate(field.type):
            _check_nulls(present.field(position), child)
