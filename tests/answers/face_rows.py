"""Tables of faces as the log gives them, written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from dfd_core.answers.face_pass import UNTRACKED

_PEOPLE = np.random.default_rng(5).integers(0, 120, (8, 64))


def looks(person: int, *, noise: int = 0, seed: int = 0) -> bytes:
    """Return an appearance of one of eight people, each byte up to `noise` off."""
    off = np.random.default_rng(seed).integers(-noise, noise + 1, 64)
    return bytes(np.clip(_PEOPLE[person] + off, 0, 255).astype(np.uint8))


def face(frame: int, person: int | None = 0, *, x: int = 100, **given: Any) -> dict[str, Any]:
    """Return a face of 100 pixels at a frame a second; without a person it has no appearance."""
    row = {
        "video_id": "v",
        "frame_index": frame * 25,
        "time_s": float(frame),
        "face_index": 0,
        "left": x,
        "top": 50,
        "right": x + 100,
        "bottom": 150,
        "detector_confidence": 1.0,
        "shot": 0,
        "p_fake": 0.5,
        "appearance": None if person is None else looks(person),
    }
    return row | given


def untracked(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return a table of faces by video, frame and face; a column that a row does not name is null."""
    rows = sorted(rows, key=lambda row: (row["video_id"], row["frame_index"], row["face_index"]))
    empty = dict.fromkeys(UNTRACKED.names)
    return pa.Table.from_pylist([empty | dict(row) for row in rows], UNTRACKED)
