"""A video's scores as FiftyOne reads them: the labels file of a `FiftyOneVideoLabelsDataset`."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from dfd_core.answers.video_rows import Row, VideoRows

_VIDEO_FACTS = ("p_fake", "verdict", "status", "uncertain_reason", "error_kind", "label")


def video_labels(rows: VideoRows) -> dict[str, Any]:
    """Return the labels of a video: its verdict, its faces by frame with their tracks, and its spans as events.

    A face is labelled with the verdict of its track, its `index` is the track. Frames count from 1, boxes are shares of the frame.
    """
    verdicts = {track["track_id"]: track["verdict"] for track in rows.tracks}
    video = rows.video
    frames = {}
    if video["width"] and video["height"]:
        for index, faces in groupby(rows.faces, key=lambda face: face["frame_index"]):
            objects = [_object(face, video, verdicts.get(face["track_id"])) for face in faces]
            frames[str(index + 1)] = {"frame_number": index + 1, "objects": {"objects": objects}}
    return {
        "attrs": {"attrs": _attributes({name: video.get(name) for name in _VIDEO_FACTS})},
        "frames": frames,
        "events": {"events": [_event(span, rows) for span in rows.spans]},
    }


def _object(face: Row, video: Row, verdict: str | None) -> dict[str, Any]:
    x, y = (_share(face["left"], video["width"]), _share(face["top"], video["height"]))
    right, bottom = (_share(face["right"], video["width"]), _share(face["bottom"], video["height"]))
    return {
        "type": "eta.core.objects.DetectedObject",
        "label": verdict or "face",
        "bounding_box": {"top_left": {"x": x, "y": y}, "bottom_right": {"x": right, "y": bottom}},
        "index": face["track_id"],
        "attrs": {"attrs": _attributes({name: face[name] for name in ("p_fake", "detector_confidence")})},
    }


def _share(pixels: int, side: int) -> float:
    return min(max(pixels / side, 0.0), 1.0)


def _event(span: Row, rows: VideoRows) -> dict[str, Any]:
    return {
        "type": "eta.core.events.VideoEvent",
        "label": "suspicious",
        "index": span["track_id"],
        "support": {"ranges": "{}-{}".format(*rows.frames_of(span))},
        "attrs": {"attrs": _attributes({"p_fake": span["p_fake"]})},
    }


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "type": f"eta.core.data.{'NumericAttribute' if isinstance(value, float) else 'CategoricalAttribute'}",
            "name": name,
            "value": value,
        }
        for name, value in values.items()
        if value is not None
    ]
