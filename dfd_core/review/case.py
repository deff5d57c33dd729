"""The report of one video to hand over: what was asked and found, how sure it is, and by what it can be checked."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jinja2

from dfd_core.errors import OutputError
from dfd_core.review import case_facts, words
from dfd_core.review.model import ScoredBy
from dfd_core.review.tables import Finished, open_run
from dfd_core.review.videos import Row, Video, one_video
from dfd_core.review.words import Fact, clock
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes
from dfd_core.storage.text import as_text, one_line


@dataclass(frozen=True, slots=True)
class _Lane:
    """One track in the timeline: bars `(x, y, width, height, class)` and spans `(x, width)` of a field of 1000 × 100."""

    title: str
    track: Row | None
    bars: list[tuple[float, float, float, float, str]]
    spans: list[tuple[float, float]]
    stretches: list[str]
    pictures: list[Row]


def write_case(scores: str, video_id: str, out: str) -> None:
    """Write the report of one video as one HTML file that loads nothing.

    Args:
        scores: The output folder of a finished run.
        video_id: The video, as in `videos/`.
        out: Where the file goes.

    Raises:
        OutputError: The scores cannot be read, they hold no such video, or the file cannot be written.
    """
    with open_run(scores) as run:
        video = one_video(run, video_id)
        if video is None:
            raise OutputError(f"{as_text(scores)} holds no video {video_id!r}")
        html = case_html(run, video, scores)
    address = Address.parse(out)
    try:
        address.fs.create_dir(address.parent, recursive=True)
        write_bytes(address, html.encode())
    except OSError as error:
        raise OutputError(f"{address} cannot be written: {one_line(error)}") from error


def case_html(run: Finished, video: Video, scores: str) -> str:
    """Return the report; everything that came from outside is escaped."""
    facts, model = video.facts, ScoredBy.of(run.run)
    others = dict(zip((*run.own, *run.further), facts["others"] or (), strict=True))
    return _template().render(
        video_id=facts["video_id"],
        answer=words.answer(facts),
        verdict=facts["verdict"],
        reason=words.reason(facts["uncertain_reason"]),
        expected=model.expected_errors(facts["verdict"]),
        no_proof=words.NO_PROOF,
        map_warning=words.OCCLUSION_IS_NO_PROOF,
        has_maps=any(picture["occlusion"] for picture in video.pictures),
        has_pictures=bool(video.pictures),
        facts=words.facts_of(facts, {}, model.rule.limits),
        lanes=_lanes(video, model),
        end=clock(_end_s(video)),
        limits=(model.rule.threshold_low, model.rule.threshold_high),
        asked=list(case_facts.asked(run)),
        identity=list(case_facts.identity(facts, others, scores)),
        own=[Fact(name, others[name] or "") for name in run.own if others[name] is not None],
        model=list(case_facts.stated_by_the_card(model)),
        untrained=not model.trained,
        times=list(case_facts.times(run.run)),
        versions=(run.run.get("versions") or {}).items(),
        written_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _end_s(video: Video) -> float:
    return float(max(video.facts["duration_s"] or 0, *(face["time_s"] for face in video.faces), 0.001))


def _lanes(video: Video, model: ScoredBy) -> list[_Lane]:
    tracks = {track["track_id"]: track for track in video.tracks}
    ids = [
        *tracks,
        *dict.fromkeys(face["track_id"] for face in video.faces if face["track_id"] not in tracks),
    ]
    return [_lane(video, model, track_id, tracks.get(track_id)) for track_id in ids]


def _lane(video: Video, model: ScoredBy, track_id: int | None, track: Row | None) -> _Lane:
    end_s = _end_s(video)
    faces = [face for face in video.faces if face["track_id"] == track_id]
    spans = [span for span in video.spans if span["track_id"] == track_id]
    width = min(90.0, 850 / max(1, len({face["time_s"] for face in video.faces})))
    bars = []
    for face in faces:
        height = max(2.0, 100 * face["p_fake"])
        x = min(1000 * face["time_s"] / end_s, 1000 - width)
        bars.append(
            (round(x, 1), round(100 - height, 1), round(width, 1), round(height, 1), _side(face, model))
        )
    return _Lane(
        "Faces" if track_id is None else f"Track {track_id}",
        track and track | {"reason": words.reason(track["uncertain_reason"]), "time": _stretch(track)},
        bars,
        [
            (
                round(1000 * span["start_s"] / end_s, 1),
                round(max(4, 1000 * (span["end_s"] - span["start_s"]) / end_s + width), 1),
            )
            for span in spans
        ],
        [f"{_stretch(span)} (score {span['p_fake']:.2f}, {span['num_faces']:,} faces)" for span in spans],
        [_picture(picture, model) for picture in video.pictures if picture["track_id"] == track_id],
    )


def _side(face: Mapping[str, Any], model: ScoredBy) -> str:
    if face["p_fake"] >= model.rule.threshold_high:
        return "fake"
    return "real" if face["p_fake"] < model.rule.threshold_low else "uncertain"


def _stretch(times: Mapping[str, Any]) -> str:
    start, end = clock(times["start_s"]), clock(times["end_s"])
    return start if start == end else f"{start} to {end}"


def _picture(picture: Row, model: ScoredBy) -> Row:
    grid = picture["occlusion"]
    side = round(len(grid) ** 0.5) if grid else 0
    most: float = max(map(abs, grid or [0.0]))
    return {
        "source": f"data:image/jpeg;base64,{base64.b64encode(picture['jpeg']).decode()}",
        "kind": picture["kind"],
        "score": picture["p_fake"],
        "side": _side(picture, model),
        "time": clock(picture["time_s"]),
        "frame": picture["frame_index"],
        "size": (picture["width"], picture["height"]),
        "cells": list(_cells(picture, side, max(most, 0.05))) if grid else [],
        "most": most,
    }


def _cells(picture: Row, side: int, most: float) -> Iterator[tuple[float, float, float, float, str, float]]:
    """Yield the parts of an occlusion map: left, top, width, height, colour and opacity, in pixels of the picture."""
    width = (picture["right"] - picture["left"]) / side
    height = (picture["bottom"] - picture["top"]) / side
    for number, value in enumerate(picture["occlusion"]):
        row, column = divmod(number, side)
        x, y = picture["left"] + column * width, picture["top"] + row * height
        yield x, y, width, height, "fake" if value > 0 else "real", round(0.75 * abs(value) / most, 3)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dfd_core.review", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("case.html.jinja")
