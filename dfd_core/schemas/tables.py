"""The schemas of the user's tables."""

from __future__ import annotations

import pyarrow as pa

from dfd_core.schemas.log import FACE, PICTURE, required

FACES = pa.schema(
    [
        required("video_id", pa.string()),
        *FACE,
        pa.field("shot", pa.int32()),
        required("p_fake", pa.float32()),
        pa.field("track_id", pa.int32()),
    ]
)
"""The user's `faces/`: one row per face."""

TRACKS = pa.schema(
    [
        required("video_id", pa.string()),
        required("track_id", pa.int32()),
        required("start_s", pa.float64()),
        required("end_s", pa.float64()),
        required("first_frame_index", pa.int64()),
        required("last_frame_index", pa.int64()),
        required("num_frames", pa.int32()),
        required("num_faces", pa.int32()),
        required("p_fake", pa.float32()),
        pa.field("verdict", pa.string()),
        pa.field("uncertain_reason", pa.string()),
        required("most_frame_index", pa.int64()),
        required("most_face_index", pa.int32()),
        required("least_frame_index", pa.int64()),
        required("least_face_index", pa.int32()),
    ]
)
"""The user's `tracks/`: one row per person-on-screen. `most_` and `least_` name its most and its least suspicious face."""

SPANS = pa.schema(
    [
        required("video_id", pa.string()),
        required("track_id", pa.int32()),
        required("span_index", pa.int32()),
        required("start_s", pa.float64()),
        required("end_s", pa.float64()),
        required("num_faces", pa.int32()),
        required("p_fake", pa.float32()),
    ]
)
"""The user's `spans/`: one row per suspicious stretch of a track."""

FACE_IMAGES = pa.schema([required("video_id", pa.string()), *FACE, required("image", pa.binary())])
"""`faces/` of a folder of face crops: one row per face with its picture as PNG or JPEG bytes. The manifest's own columns
(`label`, `group`, ...) follow."""

VIDEOS = pa.schema(
    [
        required("video_id", pa.string()),
        required("uri", pa.string()),
        required("status", pa.string()),
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
        required("model_id", pa.string()),
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
        required("group_id", pa.int32()),
        required("group_size", pa.int32()),
        required("verdicts_disagree", pa.bool_()),
        required("video_id", pa.string()),
        required("uri", pa.string()),
        required("status", pa.string()),
        pa.field("p_fake", pa.float32()),
        pa.field("verdict", pa.string()),
        required("num_hashes", pa.int32()),
    ]
)
"""What `dfd duplicates` writes: one row for each video that has a copy, groups whose verdicts disagree first."""


PICTURES = pa.schema(
    [
        required("video_id", pa.string()),
        required("frame_index", pa.int64()),
        required("time_s", pa.float64()),
        required("face_index", pa.int32()),
        pa.field("track_id", pa.int32()),
        required("kind", pa.string()),
        required("p_fake", pa.float32()),
        *PICTURE,
        pa.field("occlusion", pa.list_(pa.float32())),
    ]
)
"""The user's `pictures/`: one row for each face that is kept to look at."""
