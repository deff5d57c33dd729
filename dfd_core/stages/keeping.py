"""Which faces of a segment keep their pictures once they are scored.

Tracks are known only when a run is finished. Here a person is a shot and a place in it: the faces of a frame from left to right. What is
kept is enough for `answers.pictures` to choose from.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dfd_core.schemas import SEGMENT_RESULT

PICTURE_BYTES = 15_000
"""What a picture of a large face takes, roughly."""

Explain = Callable[[int], list[float]]
"""The position of a face → its occlusion map."""

PICTURES = SEGMENT_RESULT.field("pictures").type


def kept_faces(
    p_fake: npt.NDArray[np.float32],
    shot: npt.NDArray[np.int64],
    frame_index: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    *,
    keep: int,
) -> npt.NDArray[np.int64]:
    """Return the positions of the faces of one segment to keep, ascending: at most `2 * keep`.

    Of each of the `keep` most suspicious persons the most and the least suspicious faces, the more the fewer persons there are.

    Args:
        p_fake: (n,) scores.
        shot: (n,) the shot of each face.
        frame_index: (n,) its frame.
        left: (n,) the left side of its box.
        keep: Pictures of a video.

    Example:
        >>> p_fake = np.array([0.1, 0.9, 0.5, 0.7], np.float32)
        >>> kept_faces(p_fake, np.zeros(4, int), np.arange(4), np.zeros(4, int), keep=2).tolist()
        [0, 1]
    """
    persons = _persons(shot, frame_index, left)
    num_persons = persons.max(initial=-1) + 1
    if not num_persons or not keep:
        return np.zeros(0, np.int64)
    mean = np.bincount(persons, weights=p_fake) / np.bincount(persons)
    each = max(1, -(-keep // (2 * num_persons)))
    kept = [
        np.concatenate([ranked[:each], ranked[-each:]])
        for person in np.argsort(-mean, kind="stable")[:keep]
        for ranked in [_ranked(np.flatnonzero(persons == person), p_fake)]
    ]
    return np.unique(np.concatenate(kept))


def _ranked(faces: npt.NDArray[np.int64], p_fake: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return faces[np.argsort(-p_fake[faces], kind="stable")]


def _persons(
    shot: npt.NDArray[np.int64], frame_index: npt.NDArray[np.int64], left: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return a number for the shot and the place of each face, (n,)."""
    order = np.lexsort((left, frame_index))
    begins = np.flatnonzero(np.r_[True, np.diff(frame_index[order]) != 0]) if len(order) else order
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
    keys = np.stack([shot, place], axis=1)
    return np.asarray(np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1), np.int64)


def pictures_of(
    faces: pa.StructArray,
    p_fake: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.int32],
    *,
    keep: int,
    explain: Explain | None,
) -> pa.ListArray:
    """Return the pictures that segments keep, a list for each: the field `pictures` of SEGMENT_RESULT.

    Args:
        faces: The faces of all segments, with a field `picture`.
        p_fake: Their scores.
        offsets: (segments + 1,) where each segment's faces begin.
        keep: Pictures of a video.
        explain: Makes the occlusion map of the face at a position; None for no maps.
    """
    shot, frame_index, left = (
        faces.field(name).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        for name in ("shot", "frame_index", "left")
    )
    kept, ends = [np.zeros(0, np.int64)], [0]
    for start, stop in pairwise(offsets.tolist()):
        part = slice(start, stop)
        chosen = kept_faces(p_fake[part], shot[part], frame_index[part], left[part], keep=keep)
        kept.append(chosen + start)
        ends.append(ends[-1] + len(chosen))
    positions = np.concatenate(kept)
    taken = faces.take(pa.array(positions))
    maps = [None if explain is None else explain(position) for position in positions.tolist()]
    fields = {name: taken.field(name) for name in ("frame_index", "face_index")} | {
        "occlusion": pa.array(maps, pa.list_(pa.float32()))
    }
    values = [
        fields[field.name] if field.name in fields else taken.field("picture").field(field.name)
        for field in PICTURES.value_type
    ]
    structs = pa.StructArray.from_arrays(values, fields=list(PICTURES.value_type))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), structs, type=PICTURES)
