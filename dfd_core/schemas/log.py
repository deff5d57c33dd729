"""The schemas of what goes from stage to stage and into the committed log."""

from __future__ import annotations

import pyarrow as pa

from dfd_core.step_clock import STEPS


def required(name: str, kind: pa.DataType) -> pa.Field:
    """Return a field that holds a value in every row."""
    return pa.field(name, kind, nullable=False)


REQUEST = pa.schema(
    [
        required("plan_key", pa.string()),
        required("uri", pa.string()),
    ]
)
"""manifest → plan: one row per video to be planned. `plan_key` names one version of one video's file."""

MANIFEST = pa.schema(
    [
        required("manifest_row", pa.int64()),
        required("video_id", pa.string()),
        required("uri", pa.string()),
        required("plan_key", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("modified_ns", pa.int64()),
    ]
)
"""The manifest as the job keeps it; the user's other columns follow these."""

ATTEMPTS = pa.schema(
    [
        required("video_id", pa.string()),
        required("attempt", pa.int32()),
        pa.field("derivation", pa.int32()),
    ]
)
"""One row per video that was retried: how many retries, and which derivation of `videos/` caused the last one."""

INPUT_HASHES = pa.schema(
    [
        required("plan_key", pa.string()),
        required("sha256", pa.string()),
        pa.field("etag", pa.string()),
    ]
)
"""One row per input that was read whole; `etag` is what an object store called this content."""

SEGMENT_RANGE = pa.struct(
    [
        required("start_s", pa.float64()),
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
        required("plan_key", pa.string()),
        pa.field("fps", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("error_kind", pa.string()),
        pa.field("error_message", pa.string()),
        required("probe_s", pa.float64()),
        required("probe_cpu_s", pa.float64()),
        required("segments", pa.list_(SEGMENT_RANGE)),
    ]
)
"""plan: one row per video. A video that cannot be opened has its error here and no segments. `probe_s` are wall-clock seconds,
`probe_cpu_s` CPU seconds of the process that opened it; 0 if that process was lost."""

SEGMENT = pa.schema(
    [
        required("segment_id", pa.string()),
        required("plan_key", pa.string()),
        required("uri", pa.string()),
        pa.field("fps", pa.float64()),
        pa.field("duration_s", pa.float64()),
        *SEGMENT_RANGE,
    ]
)
"""plan → extract: one row per segment."""

FACE_RUN = pa.schema(
    [
        *SEGMENT,
        required("table", pa.string()),
        required("first_row", pa.int64()),
        required("num_rows", pa.int32()),
        required("first_position", pa.int64()),
        required("num_frames", pa.int32()),
    ]
)
"""SEGMENT of a source of face pictures, and where its pictures are: `num_rows` rows of the Parquet file `table`, from `first_row` on.
They are one row of SEGMENT_PICTURES, or one picture each; the first picture is number `first_position` of the video."""

SECONDS = pa.struct([pa.field(f"{step}_s", pa.float64(), nullable=step == "convert") for step in STEPS])
"""Seconds of one segment by step. `convert_s` is null in older logs, where `decode_s` includes it."""

FACE = [
    required("frame_index", pa.int64()),
    required("time_s", pa.float64()),
    required("face_index", pa.int32()),
    required("left", pa.int32()),
    required("top", pa.int32()),
    required("right", pa.int32()),
    required("bottom", pa.int32()),
    required("detector_confidence", pa.float32()),
    pa.field("side_px", pa.float32()),
    pa.field("sharpness", pa.float32()),
    pa.field("brightness", pa.float32()),
    pa.field("blockiness", pa.float32()),
]
"""`side_px` and the columns after it are `faces.quality.Quality`; they are null in older logs."""

LOOK = [
    pa.field("shot", pa.int32()),
    pa.field("appearance", pa.binary(64)),
]
"""`shot` counts the segment's shots from 0. `appearance` is what `faces.appearance` makes of the face; both are null in older logs and
in tables of pictures made elsewhere."""

_SEGMENT_OUTCOME = [
    required("segment_id", pa.string()),
    required("plan_key", pa.string()),
    required("num_frames_wanted", pa.int32()),
    required("num_frames", pa.int32()),
    pa.field("error_kind", pa.string()),
    pa.field("error_message", pa.string()),
    required("extract_seconds", SECONDS),
    required("extract_cpu_seconds", SECONDS),
    required("extracted_at", pa.float64()),
    pa.field("num_shots", pa.int32()),
    pa.field("frame_hashes", pa.list_(pa.uint64())),
]
"""`extract_seconds` are wall-clock seconds, `extract_cpu_seconds` CPU seconds of the process that did the work; 0 if that process was
lost. `extracted_at` is the end of the work, in seconds since 1970 by the clock of its node. `frame_hashes` holds the perceptual hash of
each decoded frame (`video.shots`); it and `num_shots` are null in older logs and in tables of pictures made elsewhere."""


PICTURE = [
    required("width", pa.int32()),
    required("height", pa.int32()),
    required("left", pa.int32()),
    required("top", pa.int32()),
    required("right", pa.int32()),
    required("bottom", pa.int32()),
    required("jpeg", pa.binary()),
]
"""A face with its surroundings, as `faces.kept` makes it: sides in pixels, the face's box inside it, and the JPEG file."""


def face_crops(crop_px: int, *, pictures: bool = False) -> pa.Schema:
    """Return the schema of extract → score: one row per segment, its faces a list inside the row.

    A crop is `crop_px * crop_px * 3` bytes: (height, width, channel) uint8, RGB.

    Args:
        crop_px: Side of a crop, pixels.
        pictures: Whether each face has a `picture` too.
    """
    fields = [*FACE, *LOOK, required("crop", pa.binary(crop_px * crop_px * 3))]
    if pictures:
        fields.append(required("picture", pa.struct(PICTURE)))
    return pa.schema([*_SEGMENT_OUTCOME, required("faces", pa.list_(pa.struct(fields)))])


SEGMENT_PICTURES = pa.schema(
    [
        *_SEGMENT_OUTCOME,
        required("num_faces", pa.int32()),
        required("faces", pa.list_(pa.struct([*FACE, *LOOK, required("image", pa.binary())]))),
    ]
)
"""extract → commit where pictures are kept: one row per segment. A picture is PNG or JPEG bytes of the face's own size.
`num_faces` is the length of `faces`; reading it does not read the pictures."""

SEGMENT_RESULT = pa.schema(
    [
        *_SEGMENT_OUTCOME,
        required("queue_s", pa.float64()),
        required("infer_s", pa.float64()),
        required("infer_cpu_s", pa.float64()),
        required("faces", pa.list_(pa.struct([*FACE, *LOOK, required("p_fake", pa.float32())]))),
        pa.field(
            "pictures",
            pa.list_(
                pa.struct(
                    [
                        required("frame_index", pa.int64()),
                        required("face_index", pa.int32()),
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
