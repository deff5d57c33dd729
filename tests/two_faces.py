"""Frames with two people, from two photographs in the public domain: `skimage.data.astronaut()` and matplotlib's Grace Hopper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from math import nan

import cv2
import matplotlib.cbook
import numpy as np

from dfd.commands.demo_archive import Frame, portrait

ASTRONAUT, HOPPER = 0, 1
_SIDE_PX = 240
_BOXES = ((112, 2, 332, 222), (113, 18, 413, 318))
"""The face with its hair in each photograph: left, top, right, bottom, pixels."""
_BACKGROUNDS = ((70, 90, 110), (150, 140, 90), (90, 50, 60))
Place = tuple[float, float]
NOWHERE: Place = (nan, nan)


@cache
def _photograph(person: int) -> Frame:
    if person == ASTRONAUT:
        image = portrait()
    else:
        path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    left, top, right, bottom = _BOXES[person]
    return cv2.resize(image[top:bottom, left:right], (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)


def scene(people: dict[int, Place], *, background: int = 0, width: int = 960, height: int = 400) -> Frame:
    """Return a frame, (height, width, 3) uint8 RGB, of the people whose pictures have their middles at these pixels.

    A later person hides an earlier one; one at `NOWHERE` is not in the frame.
    """
    ramp = np.linspace(0.7, 1.3, width)[None, :, None] * np.array(_BACKGROUNDS[background], float)
    frame = np.broadcast_to(ramp, (height, width, 3)).clip(0, 255).astype(np.uint8)
    for person, (x, y) in people.items():
        if np.isfinite(x):
            _paste(frame, _photograph(person), int(x) - _SIDE_PX // 2, int(y) - _SIDE_PX // 2)
    return frame


def _paste(frame: Frame, picture: Frame, left: int, top: int) -> None:
    height, width = frame.shape[:2]
    x, y = max(0, left), max(0, top)
    right, bottom = min(width, left + _SIDE_PX), min(height, top + _SIDE_PX)
    if x < right and y < bottom:
        frame[y:bottom, x:right] = picture[y - top : bottom - top, x - left : right - left]


def path(*places: tuple[int, Place]) -> Sequence[Place]:
    """Return a place for each frame from 0 to the last one named, moving straight between those that are named.

    >>> path((0, (0.0, 0.0)), (2, (4.0, 2.0)))
    [(0.0, 0.0), (2.0, 1.0), (4.0, 2.0)]
    """
    numbers = [number for number, _ in places]
    at = range(numbers[-1] + 1)
    x, y = (np.interp(at, numbers, [place[axis] for _, place in places]) for axis in (0, 1))
    return list(zip(x.tolist(), y.tolist(), strict=True))


def filmed(paths: dict[int, Sequence[Place]], *, backgrounds: Iterable[int] | None = None) -> list[Frame]:
    """Return a frame for each step of the paths, in front of the background of that number."""
    count = len(next(iter(paths.values())))
    behind = [0] * count if backgrounds is None else list(backgrounds)
    return [
        scene({person: places[i] for person, places in paths.items()}, background=behind[i])
        for i in range(count)
    ]
