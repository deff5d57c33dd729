"""What the child does with one video or segment; and the rehearsal that comes before it gives up its rights."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from dfd_core.config import ExtractConfig, Limits

if TYPE_CHECKING:  # the worker itself never loads the video and face libraries
    from dfd_core.faces.detect import Detect
    from dfd_core.stages.probe import OpenVideo

Row = dict[str, Any]
_BOX = ("left", "top", "right", "bottom")
_NICER = 10
"""Steps below the worker's priority: a model that loads beside busy cores is waited for by all of them."""


def prepare(config: ExtractConfig, detect: Detect | None, open_video: OpenVideo) -> None:
    """Load all that a video may need, because nothing can be loaded later.

    Args:
        config: What leaves a video.
        detect: The face detector; None for the one that `config` names.
        open_video: Never called here. Its module comes with it, and with that the classes of the files that it opens.
    """
    import cv2

    from dfd_core.faces.detectors import load_detector
    from dfd_core.video.one_cpu import count_one_cpu

    cv2.setNumThreads(1)  # a worker is one core
    count_one_cpu()
    os.nice(_NICER)
    _rehearse(config)
    _detectors.append(detect or load_detector(config.detector, max_side_px=config.detect_max_side_px))


def _rehearse(config: ExtractConfig) -> None:
    """Work on a video and a picture of our own: libraries load many of their parts when these are first needed."""
    from dfd_core.faces.detect import Face
    from dfd_core.faces.images import encode
    from dfd_core.stages.extract import extract_once
    from dfd_core.stages.plan import WHOLE_VIDEO
    from dfd_core.video.trial import trial_clip, trial_frame

    config = replace(config, limits=Limits())  # the limits are about videos of others
    clip = trial_clip()
    video = {
        "plan_key": "",
        "segment_id": "",
        "uri": "",
        "fps": 10.0,
        "duration_s": 0.3,
    } | WHOLE_VIDEO.as_row()

    def find(rgb: object) -> list[Face]:
        return [Face(8, 8, 56, 56, 1.0)]

    pictures: Row = {"num_frames_wanted": 1, "num_frames": 1, "error_kind": None, "error_message": None}
    pictures["faces"] = [dict.fromkeys(_BOX) | {"image": encode(trial_frame(), "png")}]
    rows = (
        plan(video, config, io.BytesIO(clip)),
        extract_once(video, config, find, lambda _: io.BytesIO(clip)),
        crop(video, pictures, config),
    )
    if faults := [row["error_message"] for row in rows if row["error_kind"]]:
        raise RuntimeError(f"The rehearsal failed: {faults[0]}")


def plan(request: Row, config: ExtractConfig, file: BinaryIO) -> Row:
    """Return the plan (one row of VIDEO_PLAN) of an open video."""
    from dfd_core.stages.probe import plan_once

    return plan_once(request, config, lambda _: file)


def extract(segment: Row, config: ExtractConfig, file: BinaryIO) -> Row:
    """Return what `extract.extract_once` makes of a segment of an open video."""
    from dfd_core.stages.extract import extract_once

    return extract_once(segment, config, _detectors[0], lambda _: file)


def crop(run: Row, pictures: Row, config: ExtractConfig) -> Row:
    """Return the face crops of a run of pictures."""
    from dfd_core.stages.pictures import crop_pictures

    return crop_pictures(run, pictures, config)


_detectors: list[Detect] = []
"""The child's one detector."""
