"""The face detectors by name."""

from __future__ import annotations

from dfd_core.faces.detect import Detect, FrontalFaceDetector
from dfd_core.faces.fast import FastFaceDetector


def load_detector(name: str, *, max_side_px: int | None = None) -> Detect:
    """Return the detector `name`, one of `config.DETECTORS`, loaded.

    Args:
        name: `dlib` or `fast`.
        max_side_px: Longer side of the frame that it sees, pixels; a larger frame is scaled down. None for the detector's
            own: frames as they are for `dlib`, `fast.MAX_SIDE_PX` for `fast`.
    """
    if name == "dlib":
        return FrontalFaceDetector(max_side_px=max_side_px)
    return FastFaceDetector(max_side_px=max_side_px)
