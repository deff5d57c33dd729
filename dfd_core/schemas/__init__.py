"""Every Arrow schema, and the one way from rows to a table.

Each stage takes and returns a `pyarrow.Table` of exactly one of these schemas. A field marked `nullable=False` holds a value
in every row. Arrow and Ray do not check this; `to_table` and `check` do.
"""

from dfd_core.schemas.checks import check, to_table
from dfd_core.schemas.log import (
    ATTEMPTS,
    FACE,
    FACE_RUN,
    INPUT_HASHES,
    LOOK,
    MANIFEST,
    PICTURE,
    REQUEST,
    SECONDS,
    SEGMENT,
    SEGMENT_PICTURES,
    SEGMENT_RANGE,
    SEGMENT_RESULT,
    VIDEO_PLAN,
    face_crops,
)
from dfd_core.schemas.tables import (
    DUPLICATES,
    FACE_IMAGES,
    FACE_VIDEOS,
    FACES,
    OF_SCORES,
    PICTURES,
    SPANS,
    TRACKS,
    VIDEOS,
)

__all__ = [
    "ATTEMPTS",
    "DUPLICATES",
    "FACE",
    "FACES",
    "FACE_IMAGES",
    "FACE_RUN",
    "FACE_VIDEOS",
    "INPUT_HASHES",
    "LOOK",
    "MANIFEST",
    "OF_SCORES",
    "PICTURE",
    "PICTURES",
    "REQUEST",
    "SECONDS",
    "SEGMENT",
    "SEGMENT_PICTURES",
    "SEGMENT_RANGE",
    "SEGMENT_RESULT",
    "SPANS",
    "TRACKS",
    "VIDEOS",
    "VIDEO_PLAN",
    "check",
    "face_crops",
    "to_table",
]
