"""A video's scores as Label Studio imports them: a task with a prediction, and the labelling interface for it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from dfd_core.answers.video_rows import Row, VideoRows

VERDICTS = ("fake", "real", "uncertain")

CONFIG = """<View>
  <Header value="$video_id"/>
  <Video name="video" value="$video" timelineHeight="120"/>
  <Labels name="track" toName="video">
    <Label value="fake" background="#c0392b"/>
    <Label value="real" background="#2471a3"/>
    <Label value="uncertain" background="#7d6608"/>
  </Labels>
  <VideoRectangle name="box" toName="video"/>
  <TimelineLabels name="span" toName="video">
    <Label value="suspicious" background="#e67e22"/>
  </TimelineLabels>
  <Choices name="verdict" toName="video" choice="single" showInline="true">
    <Choice value="fake"/>
    <Choice value="real"/>
    <Choice value="uncertain"/>
  </Choices>
</View>
"""
"""The labelling interface of the tasks."""


def task(rows: VideoRows) -> dict[str, Any]:
    """Return a video's task: where it is, and the scores as a prediction; no prediction for one without a score.

    Frames count from 1, boxes are percentages of the frame. A local file is addressed as Label Studio serves it from `/`.
    """
    video = rows.video
    data = {"video": _url(video["uri"]), "video_id": video["video_id"], "status": video["status"]}
    if video["p_fake"] is None:
        return {"data": data}
    tracks = [_track(track, rows) for track in rows.tracks] if video["width"] and video["height"] else []
    choice = {"choices": [video["verdict"]]}
    result = [
        *tracks,
        *(_span(span, rows) for span in rows.spans),
        _region("verdict", "verdict", "choices", choice),
    ]
    prediction = {"model_version": video["model_id"], "score": video["p_fake"], "result": result}
    return {"data": data, "predictions": [prediction]}


def _url(uri: str) -> str:
    if "://" in uri:
        return uri
    return f"/data/local-files/?d={quote(uri.lstrip('/'), errors='surrogateescape')}"


def _region(number: str, name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": number, "from_name": name, "to_name": "video", "type": kind, "value": value}


def _track(track: Row, rows: VideoRows) -> dict[str, Any]:
    video = rows.video
    faces = [face for face in rows.faces if face["track_id"] == track["track_id"]]
    sequence = [_key_frame(face, video, is_last=face is faces[-1]) for face in faces]
    value = {
        "framesCount": _num_frames(rows),
        "duration": video["duration_s"] or 0.0,
        "sequence": sequence,
        "labels": [track["verdict"]],
    }
    return _region(f"track-{track['track_id']}", "box", "videorectangle", value) | {"score": track["p_fake"]}


def _key_frame(face: Row, video: Row, *, is_last: bool) -> dict[str, Any]:
    """Return a box; the program interpolates up to the next one, and not beyond the last."""
    left, right = (100 * min(max(face[name] / video["width"], 0.0), 1.0) for name in ("left", "right"))
    top, bottom = (100 * min(max(face[name] / video["height"], 0.0), 1.0) for name in ("top", "bottom"))
    place = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}
    return {"frame": face["frame_index"] + 1, "time": face["time_s"], "enabled": not is_last, **place}


def _span(span: Row, rows: VideoRows) -> dict[str, Any]:
    first, last = rows.frames_of(span)
    value = {"ranges": [{"start": first, "end": last}], "timelinelabels": ["suspicious"]}
    name = f"span-{span['track_id']}-{span['span_index']}"
    return _region(name, "span", "timelinelabels", value) | {"score": span["p_fake"]}


def _num_frames(rows: VideoRows) -> int:
    """Return the frames of the video by its header, at least up to its last face."""
    video = rows.video
    last = rows.faces[-1]["frame_index"] + 1 if rows.faces else 0
    return max(last, round((video["duration_s"] or 0.0) * (video["fps"] or 0.0)))
