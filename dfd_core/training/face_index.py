"""An index of labelled faces without their pictures, and the faces that can be used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.errors import ManifestError, VideoUndecodableError
from dfd_core.faces.images import FaceColumns, decode, resized
from dfd_core.schemas import to_table
from dfd_core.sources.manifest import LABELS
from dfd_core.training.self_blend import Landmarks, has_outline

INDEX = pa.schema(
    [
        pa.field("face_key", pa.binary(16), nullable=False),
        pa.field("image_hash", pa.binary(16), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("group", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("frame_index", pa.int64()),
        pa.field("has_outline", pa.bool_(), nullable=False),
        pa.field("decodes", pa.bool_(), nullable=False),
    ]
)
"""One row per face, without its picture.

`face_key` is a hash of video and picture, `image_hash` one of the picture alone. `has_outline`: there are landmarks enough to
outline the face.
"""


def index_faces(faces: pa.Table, columns: FaceColumns) -> pa.Table:
    """Return INDEX of a table of pictures. Each picture is decoded once to test it.

    Raises:
        ManifestError: A row does not name its video.
    """
    video_ids = faces.column(columns.video_id).to_pylist()
    images = [image or b"" for image in image_bytes(faces, columns.image)]
    if None in video_ids:
        raise ManifestError(f"A row of the faces has no {columns.video_id}")
    facts = zip(
        video_ids,
        images,
        _column(faces, columns.label),
        _column(faces, columns.group),
        _column(faces, columns.dataset),
        _column(faces, "frame_index" if "frame_index" in faces.column_names else None),
        landmarks_of(faces, columns),
        strict=True,
    )
    return to_table(
        [
            {
                "face_key": face_key(video_id, image),
                "image_hash": hashlib.blake2b(image, digest_size=16).digest(),
                "video_id": video_id,
                "label": label or None,
                "group": group or None,
                "dataset": dataset or None,
                "frame_index": frame,
                "has_outline": points is not None and has_outline(len(points)),
                "decodes": _decodes(image),
            }
            for video_id, image, label, group, dataset, frame, points in facts
        ],
        INDEX,
    )


def _column(faces: pa.Table, name: str | None) -> list[Any]:
    return [None] * len(faces) if name is None else list(faces.column(name).to_pylist())


def landmarks_of(faces: pa.Table, columns: FaceColumns) -> list[Landmarks | None]:
    """Return each face's landmarks, (points, 2) in fractions of the picture; None if there are none or they are unusable."""
    return [as_landmarks(values) for values in _column(faces, columns.landmarks)]


def as_landmarks(values: list[float] | None) -> Landmarks | None:
    """Return a flat list of x and y as (points, 2) float32; None if it is empty, of odd length, or not finite.

    >>> as_landmarks([0.0, 0.5, 1.0, 0.25]).tolist()
    [[0.0, 0.5], [1.0, 0.25]]
    """
    if not values or len(values) % 2 or None in values or not np.isfinite(values).all():
        return None
    return np.array(values, np.float32).reshape(-1, 2)


def face_key(video_id: str, image: bytes) -> bytes:
    """Return the key of one picture in one video: a hash of 16 bytes."""
    return hashlib.blake2b(
        image, digest_size=16, salt=hashlib.blake2b(video_id.encode(), digest_size=16).digest()
    ).digest()


def image_bytes(faces: pa.Table, column: str) -> list[bytes | None]:
    """Return the pictures' bytes, from a binary column or a struct with a field `bytes`."""
    values = faces.column(column).combine_chunks()
    found = values.field("bytes") if pa.types.is_struct(values.type) else values
    return list(found.to_pylist())


def _decodes(image: bytes) -> bool:
    try:
        return bool(decode(image).size)
    except (VideoUndecodableError, cv2.error):
        return False


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces that can be used, and the number of those left out.

    Attributes:
        rows: One row a face, sorted by `face_key`: `face_key image_hash video_id group dataset frame_index
            has_outline is_fake`.
        left_out: Faces that were left out, by reason.
    """

    rows: pd.DataFrame
    left_out: dict[str, int]


def usable_faces(index: pa.Table) -> Faces:
    """Return the labelled faces of INDEX that decode. Of equal pictures in one video one is kept.

    Raises:
        ManifestError: A label is neither real nor fake, a video has two labels or groups, or nothing is left.
    """
    labels = [label for label in pc.unique(index.column("label")).to_pylist() if label not in (*LABELS, None)]
    if labels:
        raise ManifestError(f"Expected the label {' or '.join(LABELS)}. Received: {labels[0]!r}")
    rows = index.to_pandas()
    unlabelled, broken = rows["label"].isna(), ~rows["decodes"]
    repeated = ~unlabelled & ~broken & rows.duplicated("face_key")
    left_out = {
        "unlabelled": int(unlabelled.sum()),
        "undecodable": int((broken & ~unlabelled).sum()),
        "repeated": int(repeated.sum()),
    }
    rows = rows[~unlabelled & ~broken & ~repeated].sort_values("face_key", ignore_index=True)
    if rows.empty:
        raise ManifestError(f"No labelled face is left: {left_out}")
    for name in ("label", "group"):
        kinds = rows.groupby("video_id")[name].nunique(dropna=False)
        if (kinds > 1).any():
            raise ManifestError(
                f"Expected one {name} for each video. Received: several for {kinds.idxmax()!r}"
            )
    rows["is_fake"] = rows["label"] == "fake"
    names = [
        "face_key",
        "image_hash",
        "video_id",
        "group",
        "dataset",
        "frame_index",
        "has_outline",
        "is_fake",
    ]
    return Faces(rows[names], {name: count for name, count in left_out.items() if count})


def crops_of_images(images: list[bytes], input_size: int) -> npt.NDArray[np.uint8]:
    """Return pictures decoded and resized as scoring resizes crops: uint8 (n, input_size, input_size, 3), RGB."""
    return np.stack([resized(decode(image), input_size) for image in images])
