"""Linking: which faces of a video are one person-on-screen. Pure functions over arrays; no video is opened.

Faces of successive sampled frames are linked by assignment on place, size and appearance, never across a cut. A track is not a person:
whoever is seen on both sides of a cut, or comes back looking different, has two.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LOOKS_LIMIT = 2.2
"""Distance of two appearances at which they are different people, whatever the rest says (docs/decisions/0007-tracks.md)."""
_UNKNOWN_LOOKS = 0.5
_PLACE_WEIGHT, _SIZE_WEIGHT = 0.3, 0.3
_REACH_SIDES, _REACH_SIDES_A_S = 1.0, 1.0
"""How far a face is expected to move, in its own sides: at once, and for each second since it was seen."""
_MEMORY = 0.5
_MOST_OPEN_TRACKS = 32
_CHUNK_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Sightings:
    """The faces of some videos, sorted by video, frame and face; n of them.

    Attributes:
        video: Equal for the faces of one video, (n,) int64.
        frame_index: (n,) int64.
        time_s: (n,) float64.
        shot: Number of the shot within the video, ascending, (n,) int32.
        box: left, top, right, bottom in pixels, (n, 4) float32.
        appearance: What `faces.appearance` made of each, (n, 64) uint8.
        is_known: Whether there is an appearance, (n,) bool.
    """

    video: npt.NDArray[np.int64]
    frame_index: npt.NDArray[np.int64]
    time_s: npt.NDArray[np.float64]
    shot: npt.NDArray[np.int32]
    box: npt.NDArray[np.float32]
    appearance: npt.NDArray[np.uint8]
    is_known: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.video)


def link(faces: Sightings) -> npt.NDArray[np.int32]:
    """Return the track of each face, (n,) int32: numbers from 0 within a video, in the order in which they begin.

    Scenes (the faces of one shot) in which each frame has one face, which can always be linked to the one before, are a track each. Only the
    others are linked frame by frame.
    """
    if not len(faces):
        return np.zeros(0, np.int32)
    is_video = _starts(faces.video)
    is_scene = is_video | _starts(faces.shot)
    is_frame = is_scene | _starts(faces.frame_index)
    is_hard = ~is_scene & ~_follows(faces, is_frame)
    scene = np.cumsum(is_scene) - 1
    bounds = np.append(np.flatnonzero(is_scene), len(faces))
    track = np.zeros(len(faces), np.int64)
    for number in np.unique(scene[is_hard]):
        start, end = int(bounds[number]), int(bounds[number + 1])
        track[start:end] = _link_scene(faces, start, end, is_frame)
    return _numbered(track, scene, is_video, is_scene)


def _starts(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.append(True, values[1:] != values[:-1]), np.bool_)


def _follows(faces: Sightings, is_frame: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return whether each face is alone in its frame, as the one before it is, and can be linked to that, (n,) bool."""
    is_alone = is_frame & np.append(is_frame[1:], True)
    follows = np.asarray(is_alone & np.append(False, is_alone[:-1]), np.bool_)
    at = np.flatnonzero(follows)
    for start in range(0, len(at), _CHUNK_ROWS):
        rows = at[start : start + _CHUNK_ROWS]
        follows[rows] = _costs(_Seen.of(faces, rows - 1), _Seen.of(faces, rows)) < 1
    return follows


@dataclass(slots=True)
class _Seen:
    """Faces to compare: middles in pixels, logarithm of the side, looks in [0, 1]."""

    time_s: npt.NDArray[np.float64]
    middle: npt.NDArray[np.float32]
    log_side: npt.NDArray[np.float32]
    looks: npt.NDArray[np.float32]
    is_known: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, faces: Sightings, rows: npt.NDArray[np.int64] | slice) -> _Seen:
        box = faces.box[rows]
        sides = np.maximum(box[:, 2:] - box[:, :2], 1)
        return cls(
            faces.time_s[rows],
            np.asarray((box[:, :2] + box[:, 2:]) / 2, np.float32),
            np.log(sides[:, 0] * sides[:, 1]) / 2,
            np.asarray(faces.appearance[rows] / 255, np.float32),
            faces.is_known[rows],
        )

    def column(self) -> _Seen:
        """Return the faces as a column, to compare each of them with each of a row."""
        return _Seen(
            self.time_s[:, None],
            self.middle[:, None],
            self.log_side[:, None],
            self.looks[:, None],
            self.is_known[:, None],
        )


def _costs(before: _Seen, after: _Seen) -> npt.NDArray[np.float64]:
    """Return how unlikely it is that each face is the one before; from 1 on they are not linked."""
    gap_s = np.maximum(after.time_s - before.time_s, 0)
    side = np.exp((before.log_side + after.log_side) / 2)
    shift = np.linalg.norm(after.middle - before.middle, axis=-1) / side
    place = np.minimum(shift / (_REACH_SIDES + _REACH_SIDES_A_S * gap_s), 1)
    size = np.minimum(np.abs(after.log_side - before.log_side), 1)
    looks = np.abs(after.looks - before.looks).sum(-1) / _LOOKS_LIMIT
    looks = np.where(before.is_known & after.is_known, looks, _UNKNOWN_LOOKS)
    return np.asarray(looks + _PLACE_WEIGHT * place + _SIZE_WEIGHT * size, np.float64)


class _OpenTracks:
    """The tracks of a scene that may go on: where each was last, and what it looked like lately."""

    def __init__(self) -> None:
        self.numbers = np.zeros(0, np.int64)
        self.seen: _Seen | None = None

    def take(self, found: _Seen, numbers: npt.NDArray[np.int64]) -> None:
        """Remember the faces of a frame; `numbers` are their tracks."""
        if self.seen is None:
            self.numbers, self.seen = numbers, found
            return
        old = np.flatnonzero(~np.isin(self.numbers, numbers))[: _MOST_OPEN_TRACKS - len(numbers)]
        for place, number in enumerate(numbers):
            was = np.flatnonzero(self.numbers == number)
            if was.size and self.seen.is_known[was[0]] and found.is_known[place]:
                found.looks[place] += _MEMORY * (self.seen.looks[was[0]] - found.looks[place])
        # The latest come first, so that the oldest are forgotten.
        self.numbers = np.append(numbers, self.numbers[old])
        self.seen = _Seen(
            *(
                np.concatenate([getattr(found, name), getattr(self.seen, name)[old]])
                for name in _Seen.__slots__
            )
        )


def _link_scene(
    faces: Sightings, start: int, end: int, is_frame: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return the tracks of the faces from `start` to `end`, one shot, numbered from 0 as they begin."""
    from scipy.optimize import (
        linear_sum_assignment,  # half a CPU second, which commands that link nothing do without
    )

    tracks = np.zeros(end - start, np.int64)
    open_tracks, next_number = _OpenTracks(), 0
    edges = np.append(np.flatnonzero(is_frame[start:end]), end - start)
    for low, high in itertools.pairwise(edges):
        found = _Seen.of(faces, slice(start + low, start + high))
        numbers = np.full(high - low, -1)
        if open_tracks.seen is not None:
            costs = np.minimum(_costs(open_tracks.seen.column(), found), 1)
            old, new = linear_sum_assignment(costs)
            is_linked = costs[old, new] < 1
            numbers[new[is_linked]] = open_tracks.numbers[old[is_linked]]
        is_new = numbers < 0
        numbers[is_new] = next_number + np.arange(is_new.sum())
        next_number += int(is_new.sum())
        tracks[low:high] = numbers
        open_tracks.take(found, numbers)
    return tracks


def _numbered(
    track: npt.NDArray[np.int64],
    scene: npt.NDArray[np.int64],
    is_video: npt.NDArray[np.bool_],
    is_scene: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int32]:
    """Return numbers within the video from numbers within the scene."""
    first = np.flatnonzero(is_scene)
    sizes = np.maximum.reduceat(track, first) + 1
    before = np.cumsum(sizes) - sizes
    of_video = np.maximum.accumulate(np.where(is_video[first], before, 0))
    return np.asarray(track + (before - of_video)[scene], np.int32)
