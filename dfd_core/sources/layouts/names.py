"""The sources of a video, from its path."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

_CELEBRITY = {"real": re.compile(r"(id\d+)_\d+"), "fake": re.compile(r"(id\d+)_(id\d+)_\d+")}
"""Celeb-DF: the person in the footage, the person whose face was put there, the number of the footage."""
_SEQUENCE = {"real": re.compile(r"(\d{3})"), "fake": re.compile(r"(\d{3})_(\d{3})")}
"""FaceForensics++: the target sequence, the source sequence."""
_ACTOR = {"real": re.compile(r"(\d{2})__.+"), "fake": re.compile(r"(\d{2})_(\d{2})__.+")}
"""DeepFakeDetection in FaceForensics++: the actor in the footage, the actor whose face was put there, the scene."""


def celebrities(name: str, label: str) -> tuple[str, ...]:
    """Return the persons that a name of Celeb-DF stands for; none if it is not one.

    >>> celebrities("id0_id16_0003", "fake")
    ('id0', 'id16')
    """
    found = _CELEBRITY[label].fullmatch(name)
    return found.groups() if found else ()


def sequences(name: str, label: str) -> tuple[str, ...]:
    """Return the sequences or actors that a name of FaceForensics++ stands for; none if it is not one.

    >>> sequences("000_003", "fake"), sequences("01__kitchen_pan", "real")
    (('000', '003'), ('actor01',))
    """
    found, actors = _SEQUENCE[label].fullmatch(name), _ACTOR[label].fullmatch(name)
    if actors:
        return tuple(f"actor{number}" for number in actors.groups())
    return found.groups() if found else ()


def in_dataset(dataset: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return `names` as sources of a dataset.

    >>> in_dataset("dfdc", ["a"])
    ('dfdc:a',)
    """
    return tuple(f"{dataset}:{name}" for name in names)


def stem(path: str) -> str:
    """Return the name of a file without its folders and its ending."""
    return posixpath.splitext(posixpath.basename(path))[0]


def from_folder(path: str, names: Iterable[str]) -> list[str]:
    """Return the parts of `path` from the first folder that has one of `names`; empty if none has.

    >>> from_folder("a/real/b.mp4", ["real"])
    ['real', 'b.mp4']
    """
    parts = path.split("/")
    return next((parts[start:] for start, part in enumerate(parts[:-1]) if part in names), [])
