"""`dfd score CLIP` without `--out`: one video, one row, and its most suspicious frames in words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from dfd.cluster.runtime import LOG, without_stderr
from dfd.commands.shape import print_result
from dfd.graph_folder import private_folder
from dfd_core.answers.verdicts import REASONS
from dfd_core.errors import RequestError
from dfd_core.sources.videos import read_videos
from dfd_core.storage.text import as_text

if TYPE_CHECKING:
    from dfd_core.one_video import VideoScore

_NEED_A_FOLDER = ("estimate", "hash", "overwrite", "profile", "repair", "retry_failed")
_SHOWN = 3


def score_one(source: str, flags: Mapping[str, Any], **options: Any) -> int:
    """Score the video at `source`, print what was found, and return the exit status: 1 if the video failed.

    Args:
        source: The video's address.
        flags: The flags of the command; those that are about an output folder must not be set.
        options: Keywords of `dfd_core.score_video`.

    Raises:
        RequestError: The source is not one video, a flag needs `--out`, or the model cannot be used.
    """
    if needing := [f"--{name.replace('_', '-')}" for name in _NEED_A_FOLDER if flags[name]]:
        raise RequestError(f"{needing[0]} needs an output folder: --out OUT")
    if (num_videos := read_videos(source, allow_http=flags["allow_http"]).table.num_rows) > 1:
        raise RequestError(
            f"{as_text(source)} holds {num_videos:,} videos. Their results need an output folder: --out OUT"
        )
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TensorFlow leaves Keras alone until it is needed
    with nullcontext() if flags["verbose"] else without_stderr():  # TensorFlow says what it does not find
        from dfd_core.one_video import score_video

        score = score_video(source, cache_dir=private_folder(), **options)
    values = {**score.video, "most_suspicious": score.most_suspicious(_SHOWN)}
    print_result(values, lambda: click.echo(in_words(score)))
    if str(score.video["model_id"]).startswith("untrained:"):
        LOG.warning("The model is UNTRAINED: its score is noise")
    return int(score.status == "failed")


def in_words(score: VideoScore) -> str:
    """Return a table of one row, and below it what the row means."""
    video = score.video
    duration_s = video["duration_s"]
    row = {
        "video": video["video_id"],
        "status": score.status,
        "verdict": score.verdict or "-",
        "p_fake": "-" if score.p_fake is None else f"{score.p_fake:.3f}",
        "frames": f"{video['num_frames'] or 0:,}",
        "faces": f"{video['num_faces'] or 0:,}",
        "duration": "-" if duration_s is None else clock(duration_s),
    }
    widths = [max(len(name), len(value)) for name, value in row.items()]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in (row, row.values())
    ]
    return "\n".join([*(line.rstrip() for line in lines), "", *_explained(score)])


def _explained(score: VideoScore) -> list[str]:
    video = score.video
    lines = []
    if video["error_kind"]:
        lines.append(f"{video['error_kind']}: {video['error_message']}")
    if score.status == "no_face":
        lines.append(
            f"No face was found in {video['num_frames']:,} frames, so nothing is known of this video."
        )
    if reason := video.get("uncertain_reason"):
        lines.append(f"Uncertain: {REASONS[reason]}.")
    faces = score.most_suspicious(_SHOWN)
    if faces:
        lines.append("Most suspicious frames:")
    return [*lines, *(f"  {face_in_words(face, video)}" for face in faces)]


def face_in_words(face: Mapping[str, Any], video: Mapping[str, Any]) -> str:
    """Return when and where a face of a frame was, how large, and how likely it is fake.

    >>> face = dict(time_s=83.5, frame_index=2087, left=40, right=160, top=20, bottom=140, p_fake=0.91)
    >>> face_in_words(face, dict(width=640, height=360))
    'at 1:23.5, frame 2,087: p_fake 0.910, a face of 120 px in the upper left'
    """
    side_px = round((face["right"] - face["left"] + face["bottom"] - face["top"]) / 2)
    where = _part(face, video)
    return (
        f"at {clock(face['time_s'])}, frame {face['frame_index']:,}: p_fake {face['p_fake']:.3f}, "
        f"a face of {side_px} px in the {where}"
    )


def _part(face: Mapping[str, Any], video: Mapping[str, Any]) -> str:
    """Return which third of the frame the face's centre is in, across and down."""
    across = (face["left"] + face["right"]) / 2 / max(1, video["width"] or 1)
    down = (face["top"] + face["bottom"]) / 2 / max(1, video["height"] or 1)
    words = [
        "upper" if down < 1 / 3 else "lower" if down > 2 / 3 else "",
        "left" if across < 1 / 3 else "right" if across > 2 / 3 else "",
    ]
    named = " ".join(filter(None, words))
    return f"{named} middle" if named in ("upper", "lower") else named or "middle"


def clock(seconds: float) -> str:
    """Return a time in a video as players show it, to the tenth of a second.

    >>> clock(83.46), clock(7325)
    ('1:23.5', '2:02:05.0')
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest // 10:02d}.{rest % 10}"
