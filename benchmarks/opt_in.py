"""What a faster, inexact way of looking at the same videos finds of what the exact one finds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.job_runs import Box

_SAME_FACE_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found, held against the exact run.

    Attributes:
        num_faces: Faces of this run.
        num_exact: Faces of the exact run.
        gained: Faces that only this run found; None where the two looked at different frames.
        lost: Faces that only the exact run found; None as above.
        faces_per_video: This run's faces a video over the exact run's, the median over the videos in which the exact run
            found any; 0 without such a video.
        videos_emptied: Videos in which the exact run found a face and this one none.
        num_videos: Videos in which the exact run found a face.
    """

    num_faces: int
    num_exact: int
    gained: int | None
    lost: int | None
    faces_per_video: float
    videos_emptied: int
    num_videos: int


def held_against(exact: Iterable[Box], other: Iterable[Box], *, same_frames: bool) -> Found:
    """Return what `other` finds of the faces of `exact`.

    Args:
        exact: The faces of the exact run.
        other: The faces of the run to judge.
        same_frames: Whether both looked at the same frames, so that their faces can be matched one by one.
    """
    exact, other = list(exact), list(other)
    pairs = num_matched(exact, other) if same_frames else None
    of_exact, of_other = (Counter(box[0] for box in boxes) for boxes in (exact, other))
    shares = sorted(of_other[video_id] / count for video_id, count in of_exact.items())
    return Found(
        num_faces=len(other),
        num_exact=len(exact),
        gained=None if pairs is None else len(other) - pairs,
        lost=None if pairs is None else len(exact) - pairs,
        faces_per_video=shares[len(shares) // 2] if shares else 0.0,
        videos_emptied=sum(of_other[video_id] == 0 for video_id in of_exact),
        num_videos=len(of_exact),
    )


def num_matched(exact: Sequence[Box], other: Sequence[Box]) -> int:
    """Return how many faces are in both: pairs in the same frame with an IoU of at least 0.5, the best pairs first.

    >>> exact = [("clip", 0, 0, 0, 100, 100), ("clip", 9, 0, 0, 100, 100)]
    >>> num_matched(exact, [("clip", 0, 10, 0, 110, 100), ("clip", 9, 90, 0, 190, 100)])
    1
    """
    of_frame: dict[tuple[str, int], list[Box]] = defaultdict(list)
    for box in other:
        of_frame[box[:2]].append(box)
    candidates = [
        (overlap, box, rival)
        for box in exact
        for rival in of_frame[box[:2]]
        if (overlap := iou(box, rival)) >= _SAME_FACE_IOU
    ]
    taken: set[tuple[str, Box]] = set()
    pairs = 0
    for _, box, rival in sorted(candidates, reverse=True):
        if not {("exact", box), ("other", rival)} & taken:
            taken |= {("exact", box), ("other", rival)}
            pairs += 1
    return pairs


def iou(left: Box, right: Box) -> float:
    """Return the area that two boxes share over the area that they cover together.

    >>> iou(("clip", 0, 0, 0, 10, 10), ("clip", 0, 5, 0, 15, 10))
    0.3333333333333333
    """
    shared = _length(left, right, 2) * _length(left, right, 3)
    areas = [(box[4] - box[2]) * (box[5] - box[3]) for box in (left, right)]
    return shared / (sum(areas) - shared)


def _length(left: Box, right: Box, side: int) -> int:
    """Return how far two boxes overlap along the axis of which `side` is the position of the lower edge."""
    return max(0, min(left[side + 2], right[side + 2]) - max(left[side], right[side]))
