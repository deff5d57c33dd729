"""Scenes of two people, composed of the faces of two real clips, and how often linking mistakes or loses somebody in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from dfd_core.answers.linking import Sightings, link
from dfd_core.faces.appearance import NUM_BYTES

SIDE_PX = 200
_FAR, _NEAR = 800, 220
Face = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """A face in a composed scene."""

    second: int
    shot: int
    box: tuple[float, float, float, float]
    appearance: bytes
    person: int


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What linking got wrong.

    Attributes:
        faces: Faces of all scenes.
        switches: Successive faces of a track that are different people.
        breaks: Tracks of a person within one shot, beyond the first.
    """

    faces: int = 0
    switches: int = 0
    breaks: int = 0

    def __add__(self, other: Mistakes) -> Mistakes:
        return Mistakes(self.faces + other.faces, self.switches + other.switches, self.breaks + other.breaks)


def _placed(clip: Sequence[Face], person: int, x: Callable[[int, int], float | None]) -> list[Seen]:
    """Return a clip's faces, one a second, moved and scaled; `x` gives the left edge at a second of a length, None for away."""
    first = clip[0]
    scale = SIDE_PX / max(1, first["right"] - first["left"])
    found = []
    for second, face in enumerate(clip):
        left = x(second, len(clip))
        if left is None:
            continue
        across, down = (
            scale * (face["left"] - first["left"]) + left,
            scale * (face["top"] - first["top"]) + 200,
        )
        box = (across, down, across + scale * (face["right"] - face["left"]), down + scale * (face["bottom"] - face["top"]))  # fmt: skip
        found.append(Seen(second, 0, box, face["appearance"], person))
    return found


def _away(second: int, length: int) -> bool:
    return length // 3 <= second < 2 * length // 3


def _side_by_side(a: Sequence[Face], b: Sequence[Face]) -> list[Seen]:
    return _placed(a, 0, lambda *_: 100) + _placed(b, 1, lambda *_: 100 + _NEAR)


def _crossing(a: Sequence[Face], b: Sequence[Face]) -> list[Seen]:
    hidden = len(a) // 2
    return _placed(a, 0, lambda t, n: None if hidden - 1 <= t <= hidden else 100 + _FAR * t / n) + _placed(
        b, 1, lambda t, n: 100 + _FAR - _FAR * t / n
    )


def _coming_back(a: Sequence[Face], b: Sequence[Face]) -> list[Seen]:
    return _placed(a, 0, lambda t, n: None if _away(t, n) else (100 if t < n // 2 else 1200)) + _placed(
        b, 1, lambda *_: 600
    )


def _taking_turns(a: Sequence[Face], b: Sequence[Face]) -> list[Seen]:
    return _placed(a, 0, lambda t, n: None if _away(t, n) else 300) + _placed(
        b, 1, lambda t, n: 300 if _away(t, n) else None
    )


def _overlooked(a: Sequence[Face], b: Sequence[Face]) -> list[Seen]:
    rng = np.random.default_rng(len(a) + len(b))
    return [face for face in _side_by_side(a, b) if rng.random() > 0.3]


def _cut(a: Sequence[Face], b: Sequence[Face]) -> list[Seen]:
    half = len(a) // 2
    before = _side_by_side(a, b)
    after = _placed(a, 0, lambda *_: 100 + _NEAR) + _placed(b, 1, lambda *_: 100)
    return [f for f in before if f.second < half] + [replace(f, shot=1) for f in after if f.second >= half]


SCENES = {
    "side by side": _side_by_side,
    "side by side, 30 % of the faces overlooked": _overlooked,
    "crossing, one hides the other for 2 s": _crossing,
    "leaving, and coming back elsewhere": _coming_back,
    "taking turns in one place": _taking_turns,
    "a cut that swaps them": _cut,
}


def mistakes(scene: list[Seen], *, with_appearance: bool) -> Mistakes:
    """Return what linking gets wrong in a scene."""
    scene = sorted(scene, key=lambda face: (face.second, face.box[0]))
    count = len(scene)
    second = np.array([face.second for face in scene])
    shot, who = (np.array([getattr(face, name) for face in scene], np.int32) for name in ("shot", "person"))
    looks = np.frombuffer(b"".join(face.appearance for face in scene), np.uint8).reshape(-1, NUM_BYTES)
    known = np.full(count, with_appearance)
    boxes = np.array([face.box for face in scene], np.float32)
    track = link(
        Sightings(np.zeros(count, np.int64), second, second.astype(float), shot, boxes, looks, known)
    )
    switches = sum(int((np.diff(who[track == number]) != 0).sum()) for number in np.unique(track))
    people = {(person, part) for person, part in zip(who.tolist(), shot.tolist(), strict=True)}
    breaks = sum(len(np.unique(track[(who == person) & (shot == part)])) - 1 for person, part in people)
    return Mistakes(count, switches, breaks)


def judge(clips: Sequence[Sequence[Face]], *, with_appearance: bool) -> dict[str, Mistakes]:
    """Return the mistakes by scene, over every pair of clips; each clip is the faces of one person, one a second."""
    found = {}
    for name, compose in SCENES.items():
        pairs = ((a[: min(len(a), len(b))], b[: min(len(a), len(b))]) for a, b in combinations(clips, 2))
        scenes = (mistakes(compose(a, b), with_appearance=with_appearance) for a, b in pairs)
        found[name] = sum(scenes, start=Mistakes())
    return found
