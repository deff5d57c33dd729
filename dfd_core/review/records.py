"""A video as the review page's scripts read it: a short row of the list, and a record with everything."""

from __future__ import annotations

import base64
import os
import string
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dfd_core.review import words
from dfd_core.review.model import ScoredBy
from dfd_core.review.tables import Finished
from dfd_core.review.videos import Row, Video
from dfd_core.storage.uri import is_remote, local_path

THUMBNAIL_PX = 72
STRIP_PARTS = 48
_DIGITS = string.digits + string.ascii_lowercase
_MOST_THUMBNAILS = 3
_MOST_SPANS = 4
_MOST_CHARACTERS = 300
_JPEG_QUALITY = 80


def list_row(video: Video, num_own: int) -> dict[str, Any]:
    """Return what the list shows of a video."""
    facts = video.facts
    spans = sorted(video.spans, key=lambda span: -span["p_fake"])
    return {
        "id": facts["video_id"],
        "uri": facts["uri"],
        "status": facts["status"],
        "error": facts["error_kind"],
        "verdict": facts["verdict"],
        "reason": facts["uncertain_reason"],
        "p": _rounded(facts["p_fake"]),
        "end": _rounded(_end_s(video), 2),
        "strip": strip(video),
        "spans": [_span(span) for span in spans[:_MOST_SPANS]],
        "num_spans": len(spans),
        "num_tracks": len(video.tracks),
        "own": [value and value[:_MOST_CHARACTERS] for value in (facts["others"] or [])[:num_own]],
    }


def strip(video: Video) -> str:
    """Return the highest score of each of some equal parts of a video, a digit of base 36 each; `-` without a face."""
    num_parts = min(STRIP_PARTS, video.facts["num_frames"] or STRIP_PARTS)
    parts = [-1] * num_parts
    end_s = _end_s(video)
    for face in video.faces:
        part = min(int(face["time_s"] / end_s * num_parts), num_parts - 1)
        parts[part] = max(parts[part], round(face["p_fake"] * 35))
    return "".join("-" if part < 0 else _DIGITS[part] for part in parts)


def _end_s(video: Video) -> float:
    last_s = max((face["time_s"] for face in video.faces), default=0.0)
    return float(max(video.facts["duration_s"] or 0.0, last_s, 0.001))


def thumbnails(video: Video) -> list[str]:
    """Return the most suspicious kept face of each of the first tracks, small, as base64 of JPEG."""
    best: dict[int | None, Row] = {}
    for picture in video.pictures:
        held = best.setdefault(picture["track_id"], picture)
        if picture["p_fake"] > held["p_fake"]:
            best[picture["track_id"]] = picture
    ranked = sorted(best.values(), key=lambda picture: -picture["p_fake"])[:_MOST_THUMBNAILS]
    return [small for picture in ranked if (small := _thumbnail(picture))]


def _thumbnail(picture: Row) -> str | None:
    """Return the face in `picture`, squared and small; None if the picture cannot be decoded."""
    bgr = cv2.imdecode(np.frombuffer(picture["jpeg"], np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        return None
    height, width = bgr.shape[:2]
    side = min(height, width, max(picture["right"] - picture["left"], picture["bottom"] - picture["top"], 1))
    left = _clipped((picture["left"] + picture["right"] - side) // 2, width - side)
    top = _clipped((picture["top"] + picture["bottom"] - side) // 2, height - side)
    face = cv2.resize(
        bgr[top : top + side, left : left + side], (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA
    )
    encoded = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return base64.b64encode(encoded.tobytes()).decode()


def _clipped(value: int, most: int) -> int:
    return max(0, min(value, most))


def record(video: Video, run: Finished, model: ScoredBy, folder: str | None) -> dict[str, Any]:
    """Return everything that the page shows of a video.

    Args:
        video: The video.
        run: Its run.
        model: The model that scored it.
        folder: The local folder of the page; None if the page is remote.
    """
    facts, own = video.facts, run.own
    limits = model.rule.limits
    others = dict(zip((*own, *run.further), facts["others"] or (), strict=True))
    return {
        "answer": words.answer(facts),
        "reason": words.reason(facts["uncertain_reason"]),
        "expected": model.expected_errors(facts["verdict"]),
        "links": links(facts["uri"], folder),
        "width": facts["width"],
        "height": facts["height"],
        "facts": [[fact.name, fact.value, fact.note] for fact in words.facts_of(facts, others, limits)],
        "faces": [_face(face) for face in video.faces],
        "tracks": [_track(track) for track in video.tracks],
        "spans": [_span(span) for span in video.spans],
        "pictures": [_picture(picture) for picture in video.pictures],
    }


def links(uri: str, folder: str | None) -> list[str]:
    """Return the addresses from which a page in local `folder` can play a video; none if the video is remote.

    >>> links("/a/b c#.mp4", "/a/page")
    ['../b%20c%23.mp4', 'file:///a/b%20c%23.mp4']
    """
    if is_remote(uri):
        return []
    path = Path(local_path(uri))
    if not path.is_absolute():
        return []
    absolute = path.as_uri()
    if folder is None:
        return [absolute]
    relative = Path("/" + os.path.relpath(path, folder)).as_uri().removeprefix("file:///")
    return [relative, absolute]


def _face(face: Row) -> list[Any]:
    box = [face["left"], face["top"], face["right"], face["bottom"]]
    return [_rounded(face["time_s"], 3), face["track_id"], _rounded(face["p_fake"]), *box]


def _track(track: Row) -> dict[str, Any]:
    names = ("start_s", "end_s", "num_frames", "num_faces")
    return {name: _rounded(track[name], 3) for name in names} | {
        "id": track["track_id"],
        "p": _rounded(track["p_fake"]),
        "verdict": track["verdict"],
        "reason": words.reason(track["uncertain_reason"]),
    }


def _span(span: Row) -> list[Any]:
    return [
        span["track_id"],
        _rounded(span["start_s"], 3),
        _rounded(span["end_s"], 3),
        _rounded(span["p_fake"]),
        span["num_faces"],
    ]


def _picture(picture: Row) -> dict[str, Any]:
    names = ("kind", "width", "height", "left", "top", "right", "bottom")
    return {name: picture[name] for name in names} | {
        "track": picture["track_id"],
        "time_s": _rounded(picture["time_s"], 3),
        "p": _rounded(picture["p_fake"]),
        "jpeg": base64.b64encode(picture["jpeg"]).decode(),
        "occlusion": picture["occlusion"] and [_rounded(value, 3) for value in picture["occlusion"]],
    }


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return value if value is None else round(value, digits)
