"""The place of each face in the order of training or validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dfd_core.faces.images import FaceColumns
from dfd_core.schemas import to_table
from dfd_core.training.face_index import face_key, image_bytes, landmarks_of
from dfd_core.training.sampling import Ints

PLACED = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("is_fake", pa.bool_(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("landmarks", pa.list_(pa.float32())),
    ]
)
"""One row per place in the order of training or validation, with the bytes of the picture.

`landmarks`: x and y by turns, in fractions of the picture.
"""


@dataclass(frozen=True, slots=True)
class Placement:
    """The order of one side's faces.

    Attributes:
        positions_of: `face_key` → its positions; more than one where a face fills the last batch.
        is_fake: `face_key` → its label.
        weight_of_label: What a face weighs, by label: real, fake.
        count: Faces; positions from here on repeat the first ones.
        size: Positions.
        pads_count: Whether a repeated face counts (training) or has weight 0 (validation).
    """

    positions_of: dict[bytes, tuple[int, ...]]
    is_fake: dict[bytes, bool]
    weight_of_label: tuple[float, float]
    count: int
    size: int
    pads_count: bool

    def rows(self, faces: pa.Table, columns: FaceColumns) -> pa.Table:
        """Return the PLACED rows of the faces on this side."""
        rows: list[dict[str, Any]] = []
        seen: set[bytes] = set()
        images, video_ids = image_bytes(faces, columns.image), faces.column(columns.video_id).to_pylist()
        for image, video_id, points in zip(images, video_ids, landmarks_of(faces, columns), strict=True):
            key = face_key(video_id, image or b"")
            if key in seen:
                continue
            seen.add(key)
            landmarks = None if points is None else points.ravel().tolist()
            for position in self.positions_of.get(key, ()):
                counts = self.pads_count or position < self.count
                weight = self.weight_of_label[self.is_fake[key]] if counts else 0.0
                row = {"position": position, "is_fake": self.is_fake[key], "weight": weight}
                rows.append({**row, "image": image, "landmarks": landmarks})
        return to_table(rows, PLACED)


def place(
    faces: pd.DataFrame,
    *,
    multiple: int,
    order: Ints | None = None,
    weight_of_label: tuple[float, float] = (1.0, 1.0),
) -> Placement:
    """Return an order of `faces` whose length is a multiple of `multiple`, so that every step is full on every worker.

    Args:
        faces: `face_key is_fake`.
        multiple: The global batch.
        order: (places,) numbers of faces, of which the first fill the last batch and count once more. None: the faces'
            own order, and what fills the last batch weighs nothing.
        weight_of_label: Of real and fake.
    """
    numbers = np.arange(len(faces)) if order is None else order
    count = len(numbers)
    size = -(-count // multiple) * multiple
    keys, labels = faces["face_key"].to_list(), faces["is_fake"].to_list()
    positions: dict[bytes, list[int]] = {}
    for position in range(size):
        positions.setdefault(keys[numbers[position % count]], []).append(position)
    return Placement(
        {key: tuple(found) for key, found in positions.items()},
        dict(zip(keys, labels, strict=True)),
        weight_of_label,
        count,
        size,
        pads_count=order is not None,
    )
